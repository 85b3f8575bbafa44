from argparse import ArgumentParser
from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant
from tenants.states import HoldKind


class Command(TenantCommand):
    help = "Lift a hold; with the last one lifted the tenant returns to what it was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hold", choices=HoldKind.values, default=HoldKind.OPERATOR)

    def act(self, tenant: Tenant, **options: Any) -> bool:
        run = services.reactivate(actor=self.actor, tenant=tenant, hold=options["hold"])
        return self.follow(run, as_json=options["json"])
