from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from zcplatform import api_reference
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Print the API's reference as Markdown, or write it to a file: docs/api-reference.md is made by this."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, help="write it here instead")

    def run(self, **options: Any) -> None:
        text = api_reference.text()
        if options["output"] is None:
            self.stdout.write(text, ending="")
        else:
            self.write_file(options["output"], text)
