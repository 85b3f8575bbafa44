from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from tenants.runtimes.agent_images import RECIPES, build
from tenants.runtimes.docker_engine import engine_at
from tenants.runtimes.image import ensure_demo_image, image_facts
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Build an agent's image without a container registry, unless the engine has it: the demo's from the running "
        "interpreter, the others from the packages of npm or PyPI that deploy/agents/ locks."
    )

    requires_system_checks: list[str] = []  # an image is made before there is an installation

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--kind", choices=["demo", *RECIPES], default="demo", help="the agent kind whose image to build"
        )

    def run(self, **options: Any) -> None:
        began = time.monotonic()
        engine = engine_at(settings.DOCKER_HOST)
        kind = options["kind"]
        facts = image_facts(engine, ensure_demo_image(engine) if kind == "demo" else build(engine, kind))
        seconds = round(time.monotonic() - began, 1)
        if options["json"]:
            self.print_json({**facts, "seconds": seconds})
            return
        self.stdout.write(f"{', '.join(facts['names'])}  {facts['id']}  {facts['size'] / 1e6:.0f} MB  {seconds} s")
