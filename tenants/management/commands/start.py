from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Start a tenant's agent, or make sure that it runs."

    def act(self, tenant: Tenant, **options: Any) -> bool:
        return self.follow(services.start(actor=self.actor, tenant=tenant), as_json=options["json"])
