from argparse import ArgumentParser
from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Move a tenant to another plan."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--plan", required=True)

    def act(self, tenant: Tenant, **options: Any) -> bool | None:
        run = services.resize(actor=self.actor, tenant=tenant, plan=options["plan"])
        if run is not None:
            return self.follow(run, as_json=options["json"])
        self.applies_later(tenant, as_json=options["json"])
        return None
