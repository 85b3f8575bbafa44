import asyncio
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from zcplatform import notify
from zcplatform.engine_proxy import EngineProxy
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Serve a socket by which the web may look at, read the logs of and run commands in this installation's own "
        "containers, and do nothing else with the engine. For the units that keep web and workers apart."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--listen", type=Path, required=True, metavar="SOCKET", help="path of the socket to serve")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        if not settings.DOCKER_HOST.startswith("unix://") or not settings.INSTANCE:
            raise CommandError("DOCKER_HOST must be a unix socket, and the home bootstrapped.", returncode=2)
        engine = Path(settings.DOCKER_HOST.removeprefix("unix://"))
        proxy = EngineProxy(engine, options["listen"], settings.INSTANCE)
        notify.send("READY=1")
        asyncio.run(proxy.serve())
