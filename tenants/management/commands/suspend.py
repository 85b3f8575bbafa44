from argparse import ArgumentParser
from typing import Any

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant
from tenants.states import HoldKind


class Command(TenantCommand):
    help = "Set a hold on a tenant and take its agent down."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hold", choices=HoldKind.values, default=HoldKind.OPERATOR)
        parser.add_argument("--note", default="", help="why, for those who look later")

    def act(self, tenant: Tenant, **options: Any) -> bool:
        run = services.suspend(actor=self.actor, tenant=tenant, hold=options["hold"], note=options["note"])
        return self.follow(run, as_json=options["json"])
