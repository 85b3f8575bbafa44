import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from tenants import operations
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = (
        "Run a command beside a tenant's agent, as its user and without a shell: exec [options] TENANT -- ARGV... "
        "The exit code is the command's own."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--timeout", type=float, default=operations.EXEC_TIMEOUT_S, help="seconds")
        parser.add_argument("argv", nargs=REMAINDER)

    def act(self, tenant: Tenant, **options: Any) -> bool | None:
        argv = options["argv"][1:] if options["argv"][:1] == ["--"] else options["argv"]
        if argv == options["argv"] and argv[:1] and argv[0].startswith("-"):
            usage = "exec [--json] [--timeout S] TENANT -- ARGV"
            raise CommandError(f"Options stand before the tenant: {usage}", returncode=2)
        result = operations.execute(actor=self.actor, tenant=tenant, command=argv, timeout_s=options["timeout"])
        if options["json"]:
            self.print_json(vars(result))
        else:
            self.stdout.write(result.output, ending="")
        if result.timed_out:
            self.stderr.write(f"killed after {options['timeout']:g} s")
        if result.exit_code not in (0, None):
            sys.exit(result.exit_code)
        return not result.timed_out
