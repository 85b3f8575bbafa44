"""The resource sweep: what every running agent and the host use, once a minute.

Engines count up; a row tells what was used since the reading before, on the host's monotonic clock. Where an agent
began a new life, or was not read before, nothing is made up.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from monitoring import flapping, host, series, sweeps
from monitoring.models import HostSnapshot, ResourceCounter
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Handle, Reading
from tenants.states import Status
from zcplatform.lib import clock
from zcplatform.lib.contained import contained

NAME = "resources"
EVERY_S, LEASE_S = 60.0, 120.0
SHORTEST_US = 1_000_000
"""Over less than a second a share of the CPU is noise."""


@dataclass(frozen=True)
class Used:
    """Between two readings; None is not known."""

    cpu_mpct: int | None = None
    net_in: int | None = None
    net_out: int | None = None


@dataclass(frozen=True)
class Measured:
    tenant: int
    cpu_limit_pct: int
    reading: Reading


def sweep(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """One turn; None when another is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run(NAME, every_s=EVERY_S, lease_s=LEASE_S, work=_work, soonest_s=soonest_s)


def _work(turn: sweeps.Turn) -> sweeps.Outcome:
    asked, measured, read_us = _measure()
    before = {row.tenant_id: row for row in ResourceCounter.objects.filter(tenant__in=[m.tenant for m in measured])}
    ts = int(clock.now().timestamp())
    rows = [_row(item, before.get(item.tenant), ts, read_us) for item in measured]
    last = HostSnapshot.objects.newest()
    with turn.writing():
        series.insert(series.INSERT_SNAPSHOT, rows)
        series.insert(series.UPSERT_COUNTER, [_counter(item, read_us) for item in measured])
        flapping.note(*_lives(measured, before))
        HostSnapshot.objects.bulk_create([host.snapshot(ts, last)], ignore_conflicts=True)
    return sweeps.Outcome(asked, asked - len(measured))


def _measure() -> tuple[int, list[Measured], int]:
    """How many should run, what was read of those that do, and when in microseconds of the monotonic clock."""
    by_node: dict[int, dict[str, tuple[int, Decimal]]] = defaultdict(dict)
    handles: dict[int, list[Handle]] = defaultdict(list)
    running = Tenant.objects.filter(status=Status.RUNNING, handle__isnull=False)
    for pk, node_id, cores, raw in running.values_list("pk", "node_id", "plan__cpu_limit", "handle"):
        handle = contained(partial(Handle.from_json, raw or {}), None, what="handle makes no sense", tenant_id=pk)
        if handle is None:
            continue
        by_node[node_id][handle.id] = (pk, cores)
        handles[node_id].append(handle)
    found: list[Measured] = []
    for node in Node.objects.filter(pk__in=by_node):
        for key, reading in _read(node, handles[node.pk]).items():
            pk, cores = by_node[node.pk][key]
            found.append(Measured(pk, round(min(float(cores), os.cpu_count() or 1) * 100), reading))
    return sum(map(len, by_node.values())), found, time.monotonic_ns() // 1_000


def _read(node: Node, handles: list[Handle]) -> Mapping[str, Reading]:
    """A node that can't be read is a gap, and keeps no other from being read."""
    return contained(lambda: runtime_for(node).measure(handles), {}, what="node can't be measured", node=node.name)


def used(before: ResourceCounter | None, now: Reading, read_us: int) -> Used:
    """What was used between two readings: no share of the CPU when they are too close, and nothing is known when the
    host was started anew since (the monotonic clock went back)."""
    if before is None or before.read_us is None or read_us < before.read_us:
        return Used()
    took, cpu = read_us - before.read_us, _delta(before, before.cpu_us, now, now.cpu_us)
    return Used(
        cpu_mpct=None if cpu is None or took < SHORTEST_US else 100_000 * cpu // took,
        net_in=_delta(before, before.net_in, now, now.net_in),
        net_out=_delta(before, before.net_out, now, now.net_out),
    )


def _delta(before: ResourceCounter, was: int | None, now: Reading, value: int | None) -> int | None:
    """A new life counted from zero, and so did one without a name whose counter went back. In a life that has a name
    a counter goes back only when a part of the agent ended and took its share along: nothing was used."""
    if value is None or was is None:
        return None
    if now.life != before.life or (value < was and not now.life):
        return value
    return max(0, value - was)


def _lives(measured: list[Measured], before: Mapping[int, ResourceCounter]) -> tuple[set[int], set[int]]:
    """Who lives another life than at the last reading, and who the same; where lives have no names nobody knows."""
    known = [(m, before[m.tenant].life) for m in measured if m.tenant in before and before[m.tenant].life]
    reborn = {m.tenant for m, life in known if m.reading.life not in ("", life)}
    return reborn, {m.tenant for m, _ in known} - reborn


def _row(item: Measured, before: ResourceCounter | None, ts: int, read_us: int) -> tuple[int | None, ...]:
    now, since = item.reading, used(before, item.reading, read_us)
    disk = before.disk_bytes if before else None
    limits = (item.cpu_limit_pct, now.mem_bytes, now.mem_limit, disk)
    return (item.tenant, ts, since.cpu_mpct, *limits, since.net_in, since.net_out, now.pids)


def _counter(item: Measured, read_us: int) -> tuple[int | str | None, ...]:
    now = item.reading
    return (item.tenant, now.life, read_us, now.cpu_us, now.net_in, now.net_out)
