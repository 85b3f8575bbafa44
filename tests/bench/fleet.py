"""A thousand tenants in the database with an engine in memory: what a look costs, and what it costs after a reboot.

The engine takes no time, so all of it is ours; the agents are said to be healthy, since none of them listens."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter, process_time
from unittest import mock

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import reconcile
from tenants.models import Run
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState
from tests import fakes
from tests.bench import Row
from tests.factories import NodeFactory, PlanFactory
from tests.fleet import running_fleet
from vault.services import create_keyring
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM

COUNT, DRIVEN = 1_000, 100


def run() -> list[Row]:
    settings.ROUTER = "direct"
    settings.RUNTIMES = {**settings.RUNTIMES, "fake": "tests.fakes.FakeRuntime"}
    call_command("migrate", verbosity=0)
    create_keyring(actor=SYSTEM)
    engine = fakes.ENGINES["bench-fleet"]
    ranges = {"port_first": 30_001, "port_last": 31_500, "uid_first": 200_000, "uid_last": 201_499}
    node = NodeFactory(name="fleet", runtime="fake", endpoint="bench-fleet", **ranges)
    running_fleet(COUNT, node, PlanFactory(), engine)
    rows = [_sweep(f"first sweep of {COUNT} that run", "≤ 60 s"), _sweep("second sweep, writes nothing", "")]
    for agent in engine.agents.values():
        agent.state = AgentState.EXITED
    rows.append(_sweep(f"after a reboot: {COUNT} asked back", "≤ 60 s"))
    with mock.patch("tenants.provisioning.steps.probe", lambda _tenant: True):
        began, cpu = perf_counter(), process_time()
        for pk in Run.objects.filter(status="queued").values_list("pk", flat=True)[:DRIVEN]:
            execute(pk, PROCEDURE)
        wall, cpu = perf_counter() - began, process_time() - cpu
    rows.append(
        Row(
            "  each brought back, one worker", f"{wall / DRIVEN * 1000:.0f} ms", "", f"CPU {cpu / DRIVEN * 1000:.0f} ms"
        )
    )
    return rows


def _sweep(what: str, target: str) -> Row:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with mock.patch("tenants.queue.async_task"), CaptureQueriesContext(connection) as queries, clock.use(lambda: at):
        began = perf_counter()
        reconcile.sweep()
    return Row(what, f"{perf_counter() - began:.2f} s", target, f"{len(queries)} queries")
