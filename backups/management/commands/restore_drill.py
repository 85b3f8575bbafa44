from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backups import services
from backups.telling import Telling
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.text import counted


class Command(PlatformCommand):
    help = "Restore the newest backup into a scratch place, look at everything, and write down how it went."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--source", type=Path, help="folder of the archives (default: BACKUP_DIR)")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        telling = Telling(self.stderr)
        try:
            found = services.restore_drill(options["source"], say=telling, actor=self.actor)
        finally:
            telling.end()
        if options["json"]:
            self.print_json(asdict(found))
        else:
            self.stdout.write(
                f"{Path(found.archive).name} can be restored: {counted(found.tenants, 'tenant')}, every secret opens."
            )
