from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from backups import services
from backups.restoring import Restored
from backups.telling import Telling
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.words import count


class Command(PlatformCommand):
    help = (
        "Put a backup in the place of this home's database, keys and configuration. serve has to be stopped. "
        "Everything is looked at first; what is refused changes nothing. Exit code 0: done; 1: refused; 2: wrong usage."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--archive", type=Path, metavar="FILE", help="the archive that backup made")
        what.add_argument("--undo", action="store_true", help="bring back what the last restore or upgrade replaced")
        parser.add_argument("--verify-only", action="store_true", help="look at everything and change nothing")
        parser.add_argument("--yes", action="store_true", help="don't ask")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        if options["undo"]:
            if options["verify_only"]:
                raise CommandError("--undo has nothing to verify.", returncode=2)
            self._ask("Everything since the restore will be lost.", options)
            services.undo_restore()
            self.print_json({"undone": True}) if options["json"] else self.stdout.write("The earlier state is back.")
            return
        archive = options["archive"].absolute()
        if not options["verify_only"]:
            self._ask(f"The state of this home will be replaced by {archive.name}.", options)
        self._tell(self._act(archive, options), options)

    def _ask(self, what: str, options: dict[str, Any]) -> None:
        self.confirm(f"{what} Type “restore” to go on.", "restore", yes=options["yes"])

    def _act(self, archive: Path, options: dict[str, Any]) -> Restored:
        telling = Telling(self.stderr)
        act = services.verify if options["verify_only"] else services.restore
        try:
            return act(archive, say=telling)
        finally:
            telling.end()

    def _tell(self, restored: Restored, options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json({"verified_only": options["verify_only"], **asdict(restored)})
            return
        verb = "is sound" if options["verify_only"] else "is restored"
        self.stdout.write(f"{Path(restored.archive).name} of {restored.made_at[:19]} UTC, {restored.version}, {verb}.")
        if restored.migrated:
            self.stdout.write(f"It was older: {count(len(restored.migrated), 'migration')} applied.")
        if restored.unreadable:
            self.stderr.write(f"{count(restored.unreadable, 'secret')} in it can't be opened.", self.style.WARNING)
        if not options["verify_only"]:
            self.stdout.write(
                "The earlier state is kept until serve has started; until then restore --undo brings it back.\n"
                "Start serve: its first sweep brings agents and routes in line, as does zcplatform reconcile."
            )
