"""``audit_archive``: old rows into a signed export, and a checkpoint in their place."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit import archiving
from zcplatform.lib import clock
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Export audit rows older than N days, signed, and delete them under a checkpoint that keeps the chain provable."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, required=True, help="folder for the export; keep it for good")
        parser.add_argument("--older-than-days", type=int, default=365, metavar="N", help="(default: %(default)s)")
        parser.add_argument("--yes", action="store_true", help="don't ask")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        before = clock.now() - timedelta(days=max(0, options["older_than_days"]))
        question = f"Audit rows from before {before:%Y-%m-%d} will leave the database. Type “archive” to go on."
        self.confirm(question, "archive", yes=options["yes"])
        made = archiving.archive(before=before, output=options["output"].absolute(), actor=self.actor)
        if options["json"]:
            self.print_json(asdict(made))
        else:
            self.stdout.write(
                f"Rows {made.first_id} to {made.last_id} lie in {made.path}, signed by {made.signer[:16]}…"
            )
