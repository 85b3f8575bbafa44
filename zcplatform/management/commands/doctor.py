from dataclasses import asdict
from typing import Any

from zcplatform import doctor
from zcplatform.doctor.findings import Finding
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.words import count

MARKS = {"ok": "✓", "warning": "!", "error": "✗"}


class Command(PlatformCommand):
    help = "Look at everything the installation stands on. Exit code 0: no error (warnings may be there); 1: errors."
    requires_system_checks: list[str] = []  # they are the first thing it looks at

    def run(self, **options: Any) -> bool:
        findings = doctor.examine()
        errors, warnings = (sum(f.level == level for f in findings) for level in ("error", "warning"))
        if options["json"]:
            self.print_json({"ok": not errors, "findings": [asdict(finding) for finding in findings]})
            return not errors
        for finding in findings:
            self._tell(finding)
        self.stdout.write(f"{count(errors, 'error')}, {count(warnings, 'warning')}")
        return not errors

    def _tell(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}[finding.level]
        self.stdout.write(MARKS[finding.level], style, ending=" ")
        self.stdout.write(f"{finding.check:<10} {finding.what}")
        if finding.todo:
            self.stdout.write(f"{'':<13}→ {finding.todo}")
