"""``manage.py export_openapi_schema``: the API's document."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Print the API's OpenAPI document as JSON."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, help="write it to this file instead")

    def handle(self, *args: Any, **options: Any) -> None:
        from zcplatform.api_docs import document

        text = json.dumps(document(), indent=2, ensure_ascii=False)
        if options["output"]:
            options["output"].write_text(text + "\n")
        else:
            self.stdout.write(text)
