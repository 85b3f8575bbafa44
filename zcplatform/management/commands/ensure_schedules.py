"""``ensure_schedules``: make the queue's table of periodic jobs say what ``zcplatform.schedules`` declares."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from zcplatform import schedules


class Command(BaseCommand):
    help = "Add, mend and remove the platform's periodic jobs. Safe to run again; serve does it on every start."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print {added, changed, removed}")

    def handle(self, *args: Any, **options: Any) -> None:
        report = asdict(schedules.ensure())
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        for what, names in report.items():
            for name in names:
                self.stdout.write(f"{what}: {name}")
        if not any(report.values()):
            self.stdout.write("Nothing to change.")
