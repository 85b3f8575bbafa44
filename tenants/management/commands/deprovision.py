from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from tenants import services
from tenants.cli import TenantCommand
from tenants.models import Tenant


class Command(TenantCommand):
    help = "Delete a tenant: tokens revoked, agent and route gone, folder to the trash (or purged)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask for the name")
        parser.add_argument("--purge", action="store_true", help="delete the folder at once instead of keeping it")

    def act(self, tenant: Tenant, **options: Any) -> bool:
        kept = (
            "Its folder and its secrets are deleted for good."
            if options["purge"]
            else f"Its folder and secrets stay in the trash for {settings.TRASH_DAYS} days: undelete brings it back."
        )
        question = f"Deleting {tenant.slug} ends its agent and revokes its tokens. {kept} Type the slug to go on."
        self.confirm(question, tenant.slug, yes=options["yes"])
        run = services.delete(actor=self.actor, tenant=tenant, purge=options["purge"])
        return self.follow(run, as_json=options["json"])
