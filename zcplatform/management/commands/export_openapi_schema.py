"""``manage.py export_openapi_schema``: the API's document."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Print the API's OpenAPI document as JSON."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, help="write it to this file instead")

    def run(self, **options: Any) -> None:
        from zcplatform.api_docs import document

        text = json.dumps(document(), indent=2, ensure_ascii=False)
        if options["output"]:
            self.write_file(options["output"], text + "\n")
        else:
            self.stdout.write(text)
