from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from backups import services
from backups.telling import Telling
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Write database, keys and configuration into one archive, while the platform runs. Exit code 0: made; "
        "1: failed, and nothing lies under an archive's name."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, help=f"folder for the archive (default: {settings.BACKUP_DIR})")
        parser.add_argument("--keep", type=int, default=0, metavar="N", help="delete all but the newest N archives")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        if options["keep"] < 0:
            raise CommandError("--keep: a number of archives, or 0 for all.", returncode=2)
        telling = Telling(self.stderr)
        try:
            output = options["output"].absolute() if options["output"] else None
            made = services.backup(output, keep=options["keep"], say=telling, actor=self.actor)
        finally:
            telling.end()
        if not made.wrapped:
            self.stderr.write(
                "The archive holds the vault's key unwrapped: whoever reads it reads every secret. "
                "Keep it where nobody else can, or set ZCPLATFORM_VAULT_PASSPHRASE_FILE.",
                self.style.WARNING,
            )
        if options["json"]:
            self.print_json(asdict(made))
            return
        self.stdout.write(f"{made.path}: {made.size / 1e6:,.1f} MB in {made.total_s:.1f} s")
        for name in made.removed:
            self.stdout.write(f"removed {name}")
