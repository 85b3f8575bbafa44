from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Stop a tenant's agent and leave it stopped."

    def act(self, tenant: Tenant, **options: Any) -> bool:
        return self.follow(services.stop(actor=self.actor, tenant=tenant), as_json=options["json"])
