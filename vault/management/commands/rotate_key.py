"""``rotate_key``: put every secret under a new version of the vault's key, or finish a rotation that was cut short."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from vault import services
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.text import counted

UNREADABLE = 4


class Command(PlatformCommand):
    exit_codes = {"rotation_in_progress": 3}
    help = (
        "Rotate the vault's key; run again after an interruption, it finishes what was begun. Agents keep running. "
        "Exit code 0: done; 1: refused; 2: wrong arguments; 3: another rotation is running; 4: done, but some secrets "
        "do not open and keep their old key from being retired."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--status", action="store_true", help="only show the versions and how many secrets each has")
        what.add_argument(
            "--remove", type=int, metavar="VERSION", help="delete a retired version for good; older backups need it"
        )
        parser.add_argument("--yes", action="store_true", help="really remove")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        if options["status"]:
            self._show_status(options["json"])
        elif options["remove"] is not None:
            self._remove(options["remove"], options)
        else:
            self._rotate(options["json"])

    def _show_status(self, as_json: bool) -> None:
        status = services.status()
        if as_json:
            self.stdout.write(json.dumps(status))
            return
        for row in status["versions"]:
            state = f"retired {row['retired_at']}" if row["retired_at"] else "in use"
            self.stdout.write(f"v{row['version']}  {row['fingerprint']}  {counted(row['secrets'], 'secret')}  {state}")
        if status["unfinished"]:
            self.stdout.write("A rotation is running." if status["running"] else "A rotation waits to be finished.")

    def _remove(self, version: int, options: dict[str, Any]) -> None:
        if not options["yes"]:
            raise CommandError(f"Backups that need v{version} can't be restored afterwards: say --yes.", returncode=2)
        services.remove_key(version, actor=OPERATOR)
        self.stdout.write(json.dumps({"removed": version}) if options["json"] else f"v{version} removed")

    def _rotate(self, as_json: bool) -> None:
        result = services.rotate(on_progress=self._progress if self.stderr.isatty() else None, actor=OPERATOR)
        if as_json:
            self.stdout.write(json.dumps(asdict(result)))
        else:
            verb = "Finished the rotation to" if result.resumed else "Rotated to"
            self.stdout.write(f"{verb} v{result.version}: {counted(result.reencrypted, 'secret')} re-encrypted")
        if result.unreadable:
            names = ", ".join(result.unreadable[:10])
            message = f"Not opened: {counted(len(result.unreadable), 'secret')}; replace or delete: {names}"
            raise CommandError(message, returncode=UNREADABLE)

    def _progress(self, done: int, total: int) -> None:
        self.stderr.write(f"\r{done}/{total}", ending="" if done < total else "\n")
        self.stderr.flush()
