"""The usage sweep: what every agent counted since it was last asked, into the present hour.

Hours and last values are written in one transaction that only commits while the turn is ours: killed, doubled or
overtaken, nothing is lost and nothing counts twice. A clock that jumps moves what is counted to another hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from monitoring import deltas, probing, quota_marks, sweeps
from monitoring.deltas import Known
from monitoring.models import UsageCounter
from tenants import usage
from tenants.agents import counts_of, kinds
from tenants.agents.base import Counters
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Handle, Reading
from tenants.states import Status
from zcplatform.lib import clock
from zcplatform.lib.contained import contained

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


@dataclass(frozen=True)
class Told:
    """What an agent told of its present ``life``. ``turn`` is how often its counts had been taken in before it was
    asked: where that has changed since, somebody asked at the same time."""

    life: str
    counts: Counters
    turn: int


def sweep(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """One turn; None when another is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run(NAME, every_s=EVERY_S, lease_s=LEASE_S, work=_work, soonest_s=soonest_s)


def _work(turn: sweeps.Turn) -> sweeps.Outcome:
    asked = whom(Tenant.objects.filter(status=Status.RUNNING))
    found = scrape(asked)
    keys = sorted(found)
    for start in range(0, len(keys), BATCH):
        batch = {key: found[key] for key in keys[start : start + BATCH]}
        if not contained(partial(_write, turn, batch), False, what="counts can't be stored together"):
            for key, told in batch.items():  # one of them is what can't be stored
                contained(partial(_write, turn, {key: told}), False, what="counts can't be stored", tenant_id=key)
    quota_marks.tell_all(Tenant.objects.alive().select_related("plan"))
    return sweeps.Outcome(len(asked), len(asked) - len(found))


def read_last(tenant: Tenant) -> None:
    """Ask one agent once more, before it is stopped; takes some seconds at most. Again when the sweep asked at the
    same time: what it was told may be older."""
    for _ in range(2):
        found = scrape(whom(Tenant.objects.filter(pk=tenant.pk)))
        with transaction.atomic():
            if _store(found) == len(found):
                return


def _write(turn: sweeps.Turn, found: Mapping[int, Told]) -> bool:
    with turn.writing():
        _store(found)
    return True


def whom(tenants: QuerySet[Tenant]) -> list[Asked]:
    """Those of ``tenants`` that have an agent of a kind that counts."""
    paths = {name: kind.metrics_path for name, kind in kinds().items() if kind.metrics_path}
    rows = tenants.filter(handle__isnull=False, port__isnull=False, agent_kind__in=paths)
    columns = ("pk", "node_id", "node__address", "port", "agent_kind", "handle")
    return [
        Asked(pk, node, f"http://{address}:{port}{paths[kind]}", kind, Handle.from_json(raw or {}))
        for pk, node, address, port, kind, raw in rows.values_list(*columns)
    ]


def scrape(asked: Iterable[Asked]) -> dict[int, Told]:
    """Life and counts by the tenant's key, of those that gave any. An agent that was started anew while it was
    asked is left for the next turn: nobody could say whose counts these are."""
    items = {a.pk: a for a in asked}
    turns = dict(UsageCounter.objects.filter(tenant__in=items).values_list("tenant_id", "turn"))
    before = lives(items.values())
    answers = probing.ask(
        ((pk, item.url) for pk, item in items.items() if pk in before),
        lambda pk, answer: _counters(items[pk].kind, answer),
        cap=CAP,
    )
    after = lives(items.values())
    return {
        pk: Told(before[pk], counts, turns.get(pk, 0))
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
        found |= {items[key]: reading.life for key, reading in _read(node, by_node[node.pk]).items()}
    return found


def _read(node: Node, asked: Iterable[Asked]) -> Mapping[str, Reading]:
    handles = [item.handle for item in asked]
    return contained(lambda: runtime_for(node).measure(handles), {}, what="node can't be looked at", node=node.name)


def _counters(kind: str, answer: probing.Answer) -> Counters:
    if answer.error or answer.status != 200:
        return Counters()
    counts = counts_of(kind, answer.body.decode("utf-8", "replace"))
    absurd = {name: None for name, value in asdict(counts).items() if value is not None and value > HIGHEST}
    return replace(counts, **absurd)


def _store(found: Mapping[int, Told]) -> int:
    """Within a transaction: read what was last known, add what came since, remember; returns of how many. An answer
    that may be older than what is known by now, as when its agent was asked once more before a stop, is no news."""
    UsageCounter.objects.bulk_create([UsageCounter(tenant_id=pk) for pk in sorted(found)], ignore_conflicts=True)
    rows = list(UsageCounter.objects.select_for_update().filter(tenant__in=found).order_by("pk"))
    fresh = [row for row in rows if row.turn == found[row.tenant_id].turn]
    passed = usage.passed(row.tenant_id for row in fresh)
    added = [(row.tenant_id, _take(row, found[row.tenant_id], passed.get(row.tenant_id, {}))) for row in fresh]
    usage.add_many(added, usage.current_hour())
    UsageCounter.objects.bulk_update(fresh, ["life", "turn", "scraped_at", "passed", "ahead", *deltas.NAMES])
    return len(fresh)


def _take(row: UsageCounter, told: Told, passed: Mapping[str, int]) -> dict[str, int | None]:
    """What is to be added, once ``row`` remembers what was told."""
    before = Known(row.life, Counters(**{name: getattr(row, name) for name in deltas.NAMES}))
    known, counted = deltas.step(before, told.life, told.counts)
    added: dict[str, int | None] = {}
    for name in deltas.NAMES:
        came = passed.get(name, 0) - row.passed.get(name, 0)
        reborn = deltas.is_reborn(before, told.life, told.counts, name)
        added[name], row.ahead[name] = deltas.beyond(row.ahead.get(name, 0), came, counted[name], reborn=reborn)
        setattr(row, name, getattr(known.values, name))
    row.life, row.turn, row.scraped_at, row.passed = known.life, row.turn + 1, clock.now(), dict(passed)
    return added
