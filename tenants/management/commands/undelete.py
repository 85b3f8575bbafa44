from typing import Any
from uuid import UUID

from tenants.cli import TenantCommand
from tenants.models import Tenant
from tenants.undelete import undelete
from zcplatform.lib.errors import Conflict, NotFound


class Command(TenantCommand):
    help = "Bring a deleted tenant back from the trash: stopped, with its channels off and a new access token."

    def run(self, **options: Any) -> bool | None:
        return self.act(_find(options.pop("tenant")), **options)

    def act(self, tenant: Tenant, **options: Any) -> bool:
        back = undelete(actor=self.actor, tenant=tenant)
        done = self.follow(back.run, as_json=options["json"], access_token=back.access_token.reveal())
        if not options["json"]:
            self.stdout.write(f"access token, shown once: {back.access_token.reveal()}")
        return done


def _find(name: str) -> Tenant:
    """A deleted tenant by slug or public id. NotFound; Conflict ``ambiguous`` where several had the slug."""
    rows = Tenant.objects.in_trash().select_related("node", "plan", "config")
    try:
        found = list(rows.filter(public_id=UUID(name)))
    except ValueError:
        found = list(rows.filter(slug=name).order_by("-deleted_at")) if "\0" not in name else []
    if not found:
        raise NotFound(f"There is no tenant “{name}” in the trash.")
    if len(found) > 1:
        known = ", ".join(f"{tenant.public_id} ({tenant.deleted_at:%Y-%m-%d %H:%M} UTC)" for tenant in found)
        raise Conflict(f"Several tenants “{name}” are in the trash; name one by its id: {known}.", type="ambiguous")
    return found[0]
