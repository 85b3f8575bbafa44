from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from tenants import reconcile, routes
from tenants.cli import Telling, drive, outcome
from tenants.models import Node
from tenants.states import RunStatus
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.words import count


class Command(PlatformCommand):
    help = "Compare what should be with what is, and repair the difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="print the differences and change nothing")

    def run(self, **options: Any) -> bool:
        differences, runs, failed = [], [], []
        for node in Node.objects.exclude(state=Node.State.DISABLED):
            try:
                found = reconcile.look(node, thorough=True)
            except DependencyDown as error:
                failed.append(f"node {node.name}: {error.message}")
                continue
            differences += [item.difference for item in found]
            if not options["dry_run"]:
                runs += reconcile.act(node, found)
        ended = [drive(run, None if options["json"] else Telling(self.stdout.write)) for run in runs]
        try:
            result = routes.differences() if options["dry_run"] else routes.sync()
            differences += reconcile.route_differences(result)
        except DependencyDown as error:
            failed.append(f"router: {error.message}")
        failed += [outcome(run) for run in ended if run.status != RunStatus.SUCCEEDED]
        self._report(differences, failed, **options)
        return not failed

    def _report(self, differences: list[reconcile.Difference], failed: list[str], **options: Any) -> None:
        if options["json"]:
            return self.print_json({"differences": [asdict(d) for d in differences], "failed": failed})
        for d in differences:
            self.stdout.write(f"{d.slug or d.tenant or '-':<30} {d.what:<24} {d.action} {d.detail}".rstrip())
        for line in failed:
            self.stderr.write(line, self.style.ERROR)
        verb = "found" if options["dry_run"] else "settled"
        self.stdout.write(f"{count(len(differences), 'difference')} {verb}" if differences else "nothing differs")
        return None
