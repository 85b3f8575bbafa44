import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from zcplatform import demo
from zcplatform.lib.commands import SafeCommand
from zcplatform.lib.errors import ZCError


class Command(SafeCommand):
    help = "Bring up a whole platform with two tenants, and take it down again."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--runtime", choices=sorted(settings.RUNTIMES), default="process")
        parser.add_argument("--check", action="store_true", help="one chat, one JSON object, then everything is gone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["check"]:
                result = demo.check(options["runtime"], self.stderr.write)
                self.stdout.write(json.dumps(result, indent=2, ensure_ascii=False))
            else:
                demo.stay(options["runtime"], Path(settings.HOME) / "demo", self.stdout.write)
        except ZCError as error:
            if not options["check"]:
                raise CommandError(error.message, returncode=1) from error
            self.stdout.write(json.dumps({"ok": False, "error": {"type": error.type, "message": error.message}}))
            sys.exit(1)
