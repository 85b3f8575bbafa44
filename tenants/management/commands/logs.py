from argparse import ArgumentParser
from typing import Any

from tenants import operations
from tenants.cli import TenantCommand
from tenants.models import Tenant
from zcplatform.lib.ansi import plain
from zcplatform.lib.text import lines_of


class Command(TenantCommand):
    help = "Print the last lines that a tenant's agent wrote."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--tail", type=int, default=100, help="how many lines, 1 to 1,000")

        parser.add_argument(
            "--times", action="store_true", help="begin each line with the time at which it was printed"
        )

    def act(self, tenant: Tenant, **options: Any) -> None:
        text = operations.read_logs(actor=self.actor, tenant=tenant, tail=options["tail"], times=options["times"])
        if options["json"]:
            self.print_json({"tenant": tenant.slug, "lines": lines_of(text)})
        else:
            self.stdout.write(plain(text), ending="")
