"""The sweeps over 1,000 agents (listeners in a process of their own) and 50 real containers, at 0, 5 and 100 % hung;
memory over 200 sweeps; and five million snapshots in SQLite."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from monitoring import charts, queries, series
from monitoring.collectors import health, resources, usage
from monitoring.models import HealthState, ResourceCounter, ResourceHour, ResourceSnapshot
from tenants.models import Node, Tenant
from tenants.runtimes import cgroups
from tenants.runtimes.base import EngineInfo, Handle, Reading
from tenants.runtimes.docker import DockerRuntime
from tenants.states import Desired, Health, Status
from tests import counterparts
from tests.bench import Row, Took, median_ms, size
from tests.factories import NodeFactory, PlanFactory
from tests.monitoring.listeners import Listeners
from tests.tenants.runtimes.docker_bench import bench_on, sweep
from zcplatform.lib import clock

TENANTS, CONTAINERS = size((1_000, 50), (40, 2))
HUNG = size((0, 5, 100), (0, 5))
SWEEPS, EARLY = size((200, 20), (10, 2))
SERIES_TENANTS, MINUTES = size(500, 10), 7 * 24 * 60
EXPOSITION = b"".join(
    b'zeroclaw_channel_messages_total{channel="c%d",direction="inbound"} 5\n'
    b'zeroclaw_channel_messages_total{channel="c%d",direction="outbound"} 5\n'
    b'zeroclaw_tokens_input_total{model="m%d"} 100\nzeroclaw_tokens_output_total{model="m%d"} 200\n' % (n, n, n, n)
    for n in range(5)
)


class FleetRuntime:
    """A thousand agents of whom each is read as one of the real containers, where there are any."""

    kind = "bench"
    real: Sequence[str] = ()

    def __init__(self, endpoint: str = "") -> None:
        """There is one."""

    def check(self) -> EngineInfo:
        return EngineInfo(kind=self.kind, version="1", detail={})

    def measure(self, handles: Sequence[Handle]) -> Mapping[str, Reading]:
        if not self.real:
            return {handle.id: Reading("life", 1, 1, 1, 1, 1, 1) for handle in handles}
        readings = ((h.id, cgroups.read(self.real[int(h.id) % len(self.real)])) for h in handles)
        return {key: reading for key, reading in readings if reading}


def run() -> list[Row]:
    _allow_many_files()
    settings.RUNTIMES = {**settings.RUNTIMES, "bench": "tests.bench.monitoring.FleetRuntime"}
    call_command("migrate", verbosity=0)
    PlanFactory()
    rows: list[Row] = []
    with _listening() as (ports, hang):
        node = NodeFactory(name="bench", runtime="bench")
        _insert(node, ports)
        with _containers() as real:
            FleetRuntime.real = real
            rows += [row for share in HUNG for row in _swept(share, hang)]
            rows.append(_all_at_once(real))
            hang(0)
            rows.append(_memory())
    Tenant.objects.update(status=Status.STOPPED, desired=Desired.STOPPED)
    return rows + _series()


def _allow_many_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))


# --- the fleet ----------------------------------------------------------------------------------------------


def _serve(pipe: Any) -> None:
    """In a process of its own, so that its CPU time is not ours."""
    _allow_many_files()
    with Listeners() as listeners:
        ports = [listeners.open() for _ in range(TENANTS)]
        listeners.bodies.update(dict.fromkeys(ports, EXPOSITION))
        pipe.send(ports)
        while (hung := pipe.recv()) is not None:
            listeners.modes.update(
                {port: "hang" if n * 100 < hung * len(ports) else "ok" for n, port in enumerate(ports)}
            )
            pipe.send(True)


@contextmanager
def _listening() -> Iterator[tuple[list[int], Callable[[int], None]]]:
    context = get_context("fork")
    here, there = context.Pipe()
    connection.close()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()

    def hang(percent: int) -> None:
        here.send(percent)
        here.recv()

    try:
        yield here.recv(), hang
    finally:
        with suppress(OSError):
            here.send(None)
        process.join(30)
        process.kill()


def _insert(node: Node, ports: Sequence[int]) -> None:
    plan = PlanFactory()
    Tenant.objects.bulk_create(
        Tenant(
            slug=f"bench-{number}",
            name=f"Bench {number}",
            plan=plan,
            node=node,
            agent_kind="demo",
            desired=Desired.RUNNING,
            status=Status.RUNNING,
            health=Health.OK,
            running_since=clock.now() - timedelta(hours=1),
            slot=number,
            port=port,
            uid=300_000 + number,
            handle={"runtime": "bench", "name": f"bench-{number}", "id": str(number)},
        )
        for number, port in enumerate(ports)
    )


@contextmanager
def _containers() -> Iterator[list[str]]:
    """Real agents on the real engine; none where there is no engine."""
    if counterparts.missing("docker"):
        yield []
        return
    runtime = DockerRuntime()
    sweep(runtime)
    try:
        bench = bench_on(runtime)
        yield [bench.running()[1].id for _ in range(CONTAINERS)]
    finally:
        sweep(runtime)


def _turn(act: Callable[[], object]) -> Took:
    wall, cpu = perf_counter(), process_time()
    act()
    return Took(perf_counter() - wall, process_time() - cpu)


def _swept(share: int, hang: Callable[[int], None]) -> list[Row]:
    """The second turn of each: the first one warms up."""
    hang(share)
    limits = {0: "≤ 5 s", 5: "≤ 5 s", 100: "≤ 25 s"}
    rows = []
    for name, act, wall, cpu in (
        ("health", health.sweep, limits[share], "≤ 2 ms"),
        ("resources", resources.sweep, "≤ 2 s", "≤ 1.2 ms (1 % of two cores)"),
        ("usage", usage.sweep, limits[share], ""),
    ):
        HealthState.objects.all().delete()
        Tenant.objects.filter(status=Status.RUNNING).update(health=Health.OK)
        act()
        took = _turn(act)
        what = f"{name}, {TENANTS:,} agents, {share} % hung"
        rows += [
            Row(what, f"{took.wall:.2f} s", wall),
            Row("  our CPU, each", f"{took.cpu / TENANTS * 1000:.2f} ms", cpu),
        ]
        if name == "resources" and share:
            rows = rows[:-2]  # it asks nobody, so hung agents make no difference
    return rows


def _all_at_once(real: Sequence[str]) -> Row:
    """The fallback on the real containers, beside reading their groups."""
    from tenants.runtimes import docker_usage

    if not real:
        return Row(f"stats API, {CONTAINERS} containers", "no engine")
    engine = DockerRuntime().engine
    api = _turn(lambda: docker_usage.by_api(engine, real))
    own = _turn(lambda: docker_usage.measure(engine, real))
    return Row(
        f"{len(real)} real containers: cgroup files",
        f"{own.wall * 1000:.1f} ms ({own.cpu / len(real) * 1000:.2f} ms CPU each)",
        "",
        f"stats API all at once {api.wall:.2f} s ({api.cpu / len(real) * 1000:.2f} ms CPU each)",
    )


def _memory() -> Row:
    early = 0
    for number in range(1, SWEEPS + 1):
        health.sweep()
        if number % 2 == 0:
            resources.sweep()
        if number % 10 == 0:
            usage.sweep()
        if number == EARLY:
            early = _resident()
    late = _resident()
    return Row(
        f"memory after {SWEEPS} sweeps, after {EARLY}",
        f"{late / early:.3f} ({late / 1_048_576:.1f} MB, {early / 1_048_576:.1f} MB)",
        "≤ 1.05",
        f"{threading.active_count()} threads, {len(os.listdir('/proc/self/fd'))} descriptors",
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the time series ----------------------------------------------------------------------------------------

FILL = """WITH RECURSIVE minute(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM minute WHERE n < %s - 1)
INSERT INTO resource_snapshots
(tenant_id, ts, cpu_mpct, cpu_limit_pct, mem_bytes, mem_limit, disk_bytes, net_in, net_out, pids)
SELECT %s, %s + n * 60, abs(random()) %% 100000, 100, 5000000 + abs(random()) %% 2000000, 268435456,
52428800 + n, abs(random()) %% 100000, abs(random()) %% 100000, 4 FROM minute"""


def _series() -> list[Row]:
    if connection.vendor != "sqlite":
        return [Row("five million snapshots", "on SQLite only")]
    for model in (ResourceSnapshot, ResourceHour, ResourceCounter):
        model.objects.all().delete()
    tenants = list(Tenant.objects.order_by("pk")[:SERIES_TENANTS])
    now = int(clock.now().timestamp()) // 3_600 * 3_600
    first = now - MINUTES * 60
    size = _grown(lambda: _fill(tenants, first))
    hours = [first + number * 3_600 for number in range(MINUTES // 60)]
    rolled = [_turn(lambda hour=hour: series.roll_up(hour, [t.pk for t in tenants])).wall for hour in hours]
    with clock.use(lambda: _moment(now)):
        return [
            Row(f"{SERIES_TENANTS * MINUTES / 1e6:.2f} million snapshots", f"{size / 1e6:.0f} MB", "≤ 300 MB"),
            Row("one sweep of 500 rows", f"{median_ms(_times(lambda n: _write(tenants, now + n))):.1f} ms"),
            Row("an hour of 500 tenants summed up", f"{median_ms(rolled):.0f} ms"),
            Row("7-day chart", f"{median_ms(_times(lambda n: charts.resources(tenants[n], '7d'))):.1f} ms", "≤ 30 ms"),
            Row("24-hour chart", f"{median_ms(_times(lambda n: charts.resources(tenants[n], '24h'))):.1f} ms"),
            Row("the fleet's latest", f"{median_ms(_times(lambda _n: queries.latest())):.1f} ms", "≤ 20 ms"),
            _pruned(now),
        ]


def _moment(ts: int) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts, UTC)


def _fill(tenants: Sequence[Tenant], first: int) -> None:
    with connection.cursor() as cursor:
        for tenant in tenants:
            cursor.execute(FILL, [MINUTES, tenant.pk, first])


def _grown(act: Callable[[], object]) -> int:
    """By how many bytes the database grows."""
    before = _file_size()
    act()
    return _file_size() - before


def _file_size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        return int(cursor.fetchone()[0])


def _times(act: Callable[[int], object], tries: int = 9) -> list[float]:
    return [_turn(lambda number=number: act(number)).wall for number in range(tries)]


def _write(tenants: Sequence[Tenant], ts: int) -> None:
    rows = [(t.pk, ts, 1, 100, 5_000_000, 268_435_456, 52_428_800, 10, 10, 4) for t in tenants]
    series.insert(series.INSERT_SNAPSHOT, rows)


def _pruned(now: int) -> Row:
    """A day later, one day of the week is too old. Who wants to write meanwhile waits for one step at most."""
    steps = [0.0]

    def timed(execute: Callable[..., Any], *args: Any) -> Any:
        began = perf_counter()
        try:
            return execute(*args)
        finally:
            steps.append(perf_counter() - began)

    with connection.execute_wrapper(timed):
        took = _turn(lambda: _prune(now))
    measured = f"{took.wall:.2f} s ({took.cpu:.2f} s CPU), longest step {max(steps) * 1000:.0f} ms"
    return Row("prune of a day (720,000 rows)", measured, "≤ 1 s")


def _prune(now: int) -> None:
    gone = series.prune(now + series.DAY_S, usage_days=400)
    assert gone >= SERIES_TENANTS * 24 * 60, gone
