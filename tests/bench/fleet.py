"""A thousand tenants in the database with an engine in memory: what a look costs, and how long it takes after a reboot
until all are back.

The engine takes no time, so all of it is ours; the agents are said to be healthy, since none of them listens."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from unittest import mock

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import reconcile
from tenants.models import Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState
from tenants.states import Status
from tests import fakes, processes
from tests.bench import Row, size
from tests.factories import NodeFactory, PlanFactory
from tests.fleet import running_fleet
from vault.services import create_keyring
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM

COUNT = size(1_000, 30)


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
    began = perf_counter()
    rows.append(_sweep(f"after a reboot: {COUNT} asked back", ""))
    runs = list(Run.objects.filter(status="queued").values_list("pk", flat=True))
    workers = settings.RUN_WORKERS
    # Each has the engine as it was when it was forked, and its own share of the agents in it.
    children = [processes.start(partial(_bring_back, runs[turn::workers])) for turn in range(workers)]
    assert [processes.wait(pid) for pid in children] == [0] * workers
    wall, spent = perf_counter() - began, getrusage(RUSAGE_CHILDREN)
    cpu = (spent.ru_utime + spent.ru_stime) / COUNT
    up = Tenant.objects.filter(status=Status.RUNNING, runs__in=runs, runs__status="succeeded").count()
    beside = f"{workers} workers, CPU {cpu * 1000:.0f} ms each"
    rows.append(Row(f"  until {up} of {COUNT} run again", f"{wall:.1f} s", "≤ 60 s", beside))
    return rows


def _bring_back(runs: list[int]) -> None:
    with mock.patch("tenants.provisioning.steps.probe", lambda _tenant: True):
        for run in runs:
            execute(run, PROCEDURE)


def _sweep(what: str, target: str) -> Row:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with mock.patch("tenants.queue.async_task"), CaptureQueriesContext(connection) as queries, clock.use(lambda: at):
        began = perf_counter()
        reconcile.sweep()
    return Row(what, f"{perf_counter() - began:.2f} s", target, f"{len(queries)} queries")
