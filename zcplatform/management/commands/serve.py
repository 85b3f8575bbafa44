"""``serve``: the whole platform under one supervisor."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, connections

from monitoring.heartbeats import CLUSTERS
from tenants.egress.upkeep import guards_networks
from tenants.routing.addresses import listen_address
from zcplatform import leader, programs, schedules, startup
from zcplatform.engine_watch import HAND_ON_EVERY_S, EngineWatch
from zcplatform.lib import swap
from zcplatform.lib.commands import SafeCommand
from zcplatform.lib.errors import Misconfigured, ZCError
from zcplatform.supervisor import Supervisor
from zcplatform.ticker import Duty, Ticker

log = logging.getLogger(__name__)


class Command(SafeCommand):
    help = (
        "Run the web, the workers and, where it is ours to run, the router. Ends within 30 s of SIGTERM; a second "
        "signal ends it at once. Exit codes: 0 ended as asked, 2 refused to start."
    )
    requires_system_checks: list[str] = []  # made by startup.check, with an exit code of their own

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=settings.BIND, help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="port to listen on (default: %(default)s)")
        parser.add_argument("--no-web", action="store_true", help="workers only")
        parser.add_argument("--no-workers", action="store_true", help="web and router only")

    def handle(self, *args: Any, **options: Any) -> None:
        roles = [role for role in ("web", "workers") if not options[f"no_{role}"]]
        if not roles:
            raise CommandError("Nothing to serve: --no-web and --no-workers together.", returncode=2)
        try:
            startup.check()
            locks = [startup.lock(role) for role in roles]
            wanted = self._programs(roles, options["bind"].strip("[]"), options["port"])
            lead = leader.Lead() if "workers" in roles else None
            if lead:
                lead.take(self._say)
                schedules.ensure()
        except Misconfigured as error:
            raise CommandError(error.message, returncode=2) from error
        except (OSError, DatabaseError) as error:
            raise CommandError(startup.why_unwritable(error), returncode=2) from error
        self._run(wanted, lead)
        for lock in locks:
            lock.close()
        if lead and lead.lost:
            raise CommandError("Another serve has taken over the workers of this database.", returncode=2)

    def _programs(self, roles: list[str], bind: str, port: int) -> list[programs.Program]:
        wanted = [programs.cluster(name) for name in CLUSTERS] if "workers" in roles else []
        if "workers" in roles and guards_networks():
            wanted.append(programs.egress_proxy())
        if "web" in roles:
            startup.check_port(bind, port)
            startup.check_routes_lead_to(bind, port)
            wanted.append(programs.web(bind, port))
            if settings.ROUTER == "caddy" and not settings.CADDY_ADMIN:
                # Caddy itself would share the port with another Caddy, and each would get half of the requests.
                startup.check_port(*listen_address(settings.CADDY_LISTEN))
                wanted.append(programs.caddy())
        return wanted

    def _run(self, wanted: list[programs.Program], lead: leader.Lead | None) -> None:
        pulses = [program.pulse for program in wanted if program.pulse]
        duties = []
        if lead:
            duties.append(Duty("the lease on the workers", lead.renew, leader.RENEW_EVERY_S))
            duties.append(Duty("what the engines tell", EngineWatch().hand_on, HAND_ON_EVERY_S))
        ticker = Ticker(pulses, duties)
        if lead:
            ticker.start()
        connections.close_all()
        try:
            Supervisor(wanted, self._say, self._forget_earlier_state).run()
        finally:
            ticker.stop()
            if lead:
                lead.give_back()

    def _forget_earlier_state(self) -> None:
        """What a restore or an upgrade replaced was kept for the case that this start would fail."""
        try:
            if swap.forget(Path(settings.HOME), settings.DATABASE_URL):
                self._say("healthy: the state before the restore is deleted")
        except (OSError, ZCError):
            log.exception("the state before the restore can't be deleted; the next start tries again")

    def _say(self, line: str) -> None:
        """Where standard output is a file, its disk may be full: no reason to end."""
        with suppress(OSError):
            self.stdout.write(line)
            self.stdout.flush()
