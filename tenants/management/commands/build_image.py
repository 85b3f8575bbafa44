from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from tenants.runtimes.docker_engine import engine_at
from tenants.runtimes.image import ensure_demo_image, image_facts
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Build the demo agent's image from the running interpreter, without a registry, unless the engine has it. "
        "The recipes of the other agents' images are in deploy/agents/."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--kind", choices=["demo"], default="demo", help="the agent kind whose image to build")

    def run(self, **options: Any) -> None:
        began = time.monotonic()
        engine = engine_at(settings.DOCKER_HOST)
        facts = image_facts(engine, ensure_demo_image(engine))
        seconds = round(time.monotonic() - began, 1)
        if options["json"]:
            self.print_json({**facts, "seconds": seconds})
            return
        self.stdout.write(f"{', '.join(facts['names'])}  {facts['id']}  {facts['size'] / 1e6:.0f} MB  {seconds} s")
