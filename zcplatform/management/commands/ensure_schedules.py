"""``ensure_schedules``: make the queue's table of periodic jobs say what ``zcplatform.schedules`` declares."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zcplatform import schedules
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Add, mend and remove the platform's periodic jobs. Safe to run again; serve does it on every start."

    def run(self, **options: Any) -> None:
        report = asdict(schedules.ensure())
        if options["json"]:
            self.print_json(report)
            return
        for what, names in report.items():
            for name in names:
                self.stdout.write(f"{what}: {name}")
        if not any(report.values()):
            self.stdout.write("Nothing to change.")
