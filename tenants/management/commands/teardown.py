from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import transaction

from tenants import secrets, services
from tenants.cli import Telling, drive, outcome
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.states import RunStatus, Status
from tenants.status import save
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.words import count


class Command(PlatformCommand):
    help = "Delete every tenant with its folder, and remove this installation's networks: before uninstalling."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def run(self, **options: Any) -> bool:
        tenants = list(Tenant.objects.alive())
        what = count(len(tenants), "tenant")
        question = f"This deletes {what} for good. Type the installation's id to go on: {settings.INSTANCE}"
        self.confirm(question, settings.INSTANCE, yes=options["yes"])
        runs = [services.delete(actor=self.actor, tenant=tenant, purge=True) for tenant in tenants]
        ended = [drive(run, None if options["json"] else Telling(self.stdout.write)) for run in runs]
        purged = [
            _purge(tenant)
            for tenant in Tenant.objects.filter(status=Status.DELETED, purged_at=None).select_related("node")
        ]
        networks = [name for node in Node.objects.all() for name in runtime_for(node).remove_unused_networks()]
        failed = [outcome(run) for run in ended if run.status != RunStatus.SUCCEEDED]
        if options["json"]:
            self.print_json(
                {"deleted": len(ended) - len(failed), "purged": sum(purged), "networks": networks, "failed": failed}
            )
        else:
            deleted, removed = count(len(ended) - len(failed), "tenant"), count(len(networks), "network")
            self.stdout.write(f"{deleted} deleted, {removed} removed")
        for line in failed:
            self.stderr.write(line, self.style.ERROR)
        return not failed


def _purge(tenant: Tenant) -> bool:
    """What an earlier deletion has kept in the trash goes as well."""
    there = tenant.trash.exists()
    if there:
        runtime_for(tenant.node).folders.purge(tenant.trash)
    with transaction.atomic():
        save(tenant, purged_at=clock.now())
        secrets.remove(tenant, actor=SYSTEM)
    return there
