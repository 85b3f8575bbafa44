from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from accounts.services import LEAVING
        from tenants.membership import note_ownerless

        LEAVING.append(note_ownerless)
