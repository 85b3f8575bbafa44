from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings

from backups import upkeep
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.text import counted


class Command(PlatformCommand):
    help = (
        "Write the database's log back, remove leftovers of killed acts and old trash; the workers do it every night."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--vacuum", action="store_true", help="also give free pages back to the disk; stops all writers meanwhile"
        )
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        done = upkeep.maintain(Path(settings.HOME), vacuum=options["vacuum"], actor=self.actor)
        if options["json"]:
            self.print_json(done)
            return
        freed = done["bytes_before"] - done["bytes_after"]
        removed = done["staged"] + done["temporary"] + done["trash"]
        self.stdout.write(f"{counted(removed, 'leftover')} removed; the database takes {freed / 1e6:,.1f} MB less")
        if not done["log_written_back"]:
            self.stderr.write("Somebody is reading: part of the log could not be written back.")
