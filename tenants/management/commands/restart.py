from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Stop and start a tenant's agent."

    def act(self, tenant: Tenant, **options: Any) -> bool:
        return self.follow(services.restart(actor=self.actor, tenant=tenant), as_json=options["json"])
