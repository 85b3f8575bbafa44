from argparse import ArgumentParser
from typing import Any

from tenants import operations
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Print the last lines that a tenant's agent wrote."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--tail", type=int, default=100, help="how many lines, 1 to 1,000")

    def act(self, tenant: Tenant, **options: Any) -> None:
        text = operations.read_logs(actor=self.actor, tenant=tenant, tail=options["tail"])
        if options["json"]:
            self.print_json({"tenant": tenant.slug, "lines": text.splitlines()})
        else:
            self.stdout.write(text, ending="")
