from argparse import ArgumentParser
from typing import Any

from accounts.services import find_user
from tenants.cli import find_tenant
from tenants.explain import explain
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Say why a user has an ability in a tenant, or does not. Exit code 0 when allowed, 1 when not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="e-mail address")
        parser.add_argument("ability", help="such as tenant.deploy; see docs/roles.md")
        parser.add_argument("tenant", nargs="?", help="slug or public id; for abilities beyond tenants none")
        super().add_arguments(parser)

    def run(self, **options: Any) -> bool:
        ability, slug = options["ability"], options["tenant"]
        account = find_user(options["user"])
        found = explain(user=account, ability=ability, tenant=find_tenant(slug) if slug else None)
        if options["json"]:
            self.print_json({"allowed": found.allowed, "role": found.role, "reasons": found.reasons})
            return found.allowed
        for reason in found.reasons:
            self.stdout.write(f"  {reason}")
        self.stdout.write(f"{account.email}: {'yes' if found.allowed else 'no'}, {ability}")
        return found.allowed
