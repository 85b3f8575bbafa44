import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from zcplatform.bootstrap import bootstrap
from zcplatform.lib.errors import ZCError


class Command(BaseCommand):
    help = "Make folders, keys, database, plans, the node and a super-admin. May be run again at any time."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--admin-email", required=True, help="the super-admin's address")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        parts: dict[str, str] = {}
        began = time.monotonic()

        def say(name: str, outcome: str) -> None:
            parts[name] = outcome
            if not options["json"]:
                self.stdout.write(f"  ✓ {name:<12} {outcome}")

        try:
            bootstrap(admin_email=options["admin_email"], say=say)
        except ZCError as error:
            raise CommandError(error.message, returncode=1) from error
        if options["json"]:
            self.stdout.write(json.dumps({"parts": parts, "seconds": round(time.monotonic() - began, 2)}))
