from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class ZcplatformConfig(AppConfig):
    name = "zcplatform"

    def ready(self) -> None:
        from zcplatform import checks  # noqa: F401


class AdminConfig(DjangoAdminConfig):
    default_site = "zcplatform.admin.PlatformAdminSite"
