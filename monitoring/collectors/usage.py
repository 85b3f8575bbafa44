"""The usage sweep: what every agent counted since it was last asked, into the present hour.

Hours and last values are written in one transaction that only commits while the turn is ours: killed, doubled or
overtaken, nothing is lost and nothing counts twice. A clock that jumps moves what is counted to another hour.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from monitoring import deltas, probing, quota_marks, sweeps
from monitoring.deltas import Known
from monitoring.models import UsageCounter
from tenants import usage
from tenants.agents import agent_kind, kinds
from tenants.agents.base import Counters
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Handle
from tenants.states import Status
from zcplatform.lib import clock
from zcplatform.lib.errors import FaultError

log = logging.getLogger(__name__)

NAME = "usage"
EVERY_S, LEASE_S = 300.0, 240.0
CAP = 262_144
HIGHEST = 2**40
"""No agent counts this far; and sums of what is below stay within 64 bits."""
BATCH = 500


@dataclass(frozen=True)
class Asked:
    pk: int
    node_id: int
    url: str
    kind: str
    handle: Handle


def sweep(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """One turn; None when another is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run(NAME, every_s=EVERY_S, lease_s=LEASE_S, work=_work, soonest_s=soonest_s)


def _work(turn: sweeps.Turn) -> sweeps.Outcome:
    asked = whom()
    found = scrape(asked)
    keys = sorted(found)
    for start in range(0, len(keys), BATCH):
        batch = {key: found[key] for key in keys[start : start + BATCH]}
        with turn.writing():
            _store(batch)
    quota_marks.tell_all(Tenant.objects.alive().select_related("plan"))
    return sweeps.Outcome(len(asked), len(asked) - len(found))


def whom() -> list[Asked]:
    """The running agents of the kinds that count."""
    paths = {name: kind.metrics_path for name, kind in kinds().items() if kind.metrics_path}
    rows = Tenant.objects.filter(status=Status.RUNNING, handle__isnull=False, port__isnull=False, agent_kind__in=paths)
    columns = ("pk", "node_id", "node__address", "port", "agent_kind", "handle")
    return [
        Asked(pk, node, f"http://{address}:{port}{paths[kind]}", kind, Handle.from_json(raw or {}))
        for pk, node, address, port, kind, raw in rows.values_list(*columns)
    ]


def scrape(asked: Iterable[Asked]) -> dict[int, tuple[str, Counters]]:
    """Life and counts by the tenant's key, of those that gave any. An agent that was started anew while it was
    asked is left for the next turn: nobody could say whose counts these are."""
    items = {a.pk: a for a in asked}
    before = lives(items.values())
    answers = probing.ask(
        ((pk, item.url) for pk, item in items.items() if pk in before),
        lambda pk, answer: _counters(items[pk].kind, answer),
        cap=CAP,
    )
    after = lives(items.values())
    return {
        pk: (before[pk], counts)
        for pk, counts in answers.items()
        if counts != Counters() and after.get(pk) == before[pk]
    }


def lives(asked: Iterable[Asked]) -> dict[int, str]:
    """The name of each agent's present life; of a node that can't be looked at, none."""
    by_node: dict[int, list[Asked]] = defaultdict(list)
    for item in asked:
        by_node[item.node_id].append(item)
    found: dict[int, str] = {}
    for node in Node.objects.filter(pk__in=by_node):
        items = {item.handle.id: item.pk for item in by_node[node.pk]}
        try:
            readings = runtime_for(node).measure([item.handle for item in by_node[node.pk]])
        except FaultError as error:
            log.warning("node can't be looked at", extra={"node": node.name, "type": error.type})
            continue
        found |= {items[key]: reading.life for key, reading in readings.items()}
    return found


def _counters(kind: str, answer: probing.Answer) -> Counters:
    if answer.error or answer.status != 200:
        return Counters()
    counts = agent_kind(kind).counters(answer.body.decode("utf-8", "replace"))
    absurd = {name: None for name, value in asdict(counts).items() if value is not None and value > HIGHEST}
    return replace(counts, **absurd)


def _store(found: Mapping[int, tuple[str, Counters]]) -> None:
    """Within the turn's transaction: read what was last known, add what came since, remember."""
    rows = {row.tenant_id: row for row in UsageCounter.objects.filter(tenant__in=found)}
    steps = {pk: deltas.step(_known(rows.get(pk)), life, counts) for pk, (life, counts) in found.items()}
    usage.add_many([(pk, delta) for pk, (_, delta) in steps.items()], usage.current_hour())
    now = clock.now()
    UsageCounter.objects.bulk_create(
        [
            UsageCounter(tenant_id=pk, life=known.life, scraped_at=now, **asdict(known.values))
            for pk, (known, _) in steps.items()
        ],
        update_conflicts=True,
        unique_fields=["tenant"],
        update_fields=["life", "scraped_at", *deltas.NAMES],
    )


def _known(row: UsageCounter | None) -> Known:
    if row is None:
        return Known()
    return Known(row.life, Counters(**{name: getattr(row, name) for name in deltas.NAMES}))
