import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.management.commands.second_factor import in_words
from zcplatform.bootstrap import bootstrap
from zcplatform.lib.errors import ZCError


class Command(BaseCommand):
    help = "Make folders, keys, database, plans, the node and a super-admin. May be run again at any time."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--admin-email", required=True, help="the super-admin's address")
        parser.add_argument("--second-factor", action="store_true", help="enrol the super-admin's authenticator app")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        parts: dict[str, str] = {}
        began = time.monotonic()

        def say(name: str, outcome: str) -> None:
            parts[name] = outcome
            if not options["json"]:
                self.stdout.write(f"  ✓ {name:<12} {outcome}")

        try:
            enrolled = bootstrap(admin_email=options["admin_email"], say=say, second_factor=options["second_factor"])
        except ZCError as error:
            raise CommandError(error.message, returncode=1) from error
        if options["json"]:
            told = {"second_factor": enrolled} if enrolled else {}
            self.stdout.write(json.dumps({"parts": parts, "seconds": round(time.monotonic() - began, 2), **told}))
        elif enrolled:
            self.stdout.write(in_words(enrolled))
