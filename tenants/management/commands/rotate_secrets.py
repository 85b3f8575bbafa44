from argparse import ArgumentParser
from typing import Any

from tenants import services
from tenants.cli import TenantCommand, summary
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Give the agent a new bearer, revoke every access token and print a new one, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask for the name")

    def act(self, tenant: Tenant, **options: Any) -> bool | None:
        question = f"Every access token of {tenant.slug} stops working, and its agent restarts. Type the slug to go on."
        self.confirm(question, tenant.slug, yes=options["yes"])
        rotated = services.rotate_secrets(actor=self.actor, tenant=tenant)
        token = rotated.access_token.reveal()
        if not options["json"]:
            self.stdout.write(f"access token, shown once: {token}")
        if rotated.run is not None:
            return self.follow(rotated.run, as_json=options["json"], access_token=token)
        if options["json"]:
            self.print_json(summary(tenant, None) | {"access_token": token})
        else:
            self.applies_later(tenant, as_json=False)
        return None
