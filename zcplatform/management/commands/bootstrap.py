import time
from argparse import ArgumentParser
from typing import Any

from accounts.management.commands.second_factor import in_words
from zcplatform.bootstrap import bootstrap
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Make folders, keys, database, plans, the node and a super-admin. May be run again at any time."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--admin-email", required=True, help="the super-admin's address")
        parser.add_argument("--second-factor", action="store_true", help="enrol the super-admin's authenticator app")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        parts: dict[str, str] = {}
        began = time.monotonic()

        def say(name: str, outcome: str) -> None:
            parts[name] = outcome
            if not options["json"]:
                self.stdout.write(f"  ✓ {name:<12} {outcome}")

        enrolled = bootstrap(admin_email=options["admin_email"], say=say, second_factor=options["second_factor"])
        if options["json"]:
            told = {"second_factor": enrolled} if enrolled else {}
            self.print_json({"parts": parts, "seconds": round(time.monotonic() - began, 2), **told})
        elif enrolled:
            self.stdout.write(in_words(enrolled))
