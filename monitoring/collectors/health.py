"""The health sweep: every running agent is probed at the same time, every 30 s.

Who fails three times in a row is looked at and restarted, with pauses and a cap; then it is ``error`` with a reason.
When the engine or the whole node is in trouble nobody is blamed: ``unknown``. Agents that are meant to be down, and
those with a run under way, are not asked; containers that were stopped or removed by hand are reconcile's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q

from monitoring import diagnosis, flapping, probing, strikes, sweeps
from monitoring.models import HealthState
from monitoring.strikes import Act, Memory, Verdict
from tenants import health, reconcile, services
from tenants.agents import agent_kind, is_healthy
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentState
from tenants.states import Desired, Health, Reason, Status
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import Conflict

log = logging.getLogger(__name__)

NAME = "health"
EVERY_S, LEASE_S = 30.0, 120.0
TROUBLE_FROM = 10
"""From so many agents on, all failing at once is the node's trouble and not that of each."""
ACTS_PER_TURN = 10
"""Whatever is wrong, restarting everybody at once makes it worse."""
COLUMNS = (
    *("pk", "node_id", "node__address", "port", "agent_kind", "status", "health"),
    *("health_state__strikes", "health_state__successes", "health_state__restarts"),
    *("health_state__since", "health_state__evidence"),
)
BATCH = 200
OURS = (Reason.UNHEALTHY, Reason.OOM_KILLED, Reason.CRASH_LOOP, Reason.BAD_CONFIG, Reason.PORT_CONFLICT)


@dataclass(frozen=True)
class Watched:
    """One agent that is asked, as the row was at the beginning of the turn."""

    pk: int
    node_id: int
    url: str
    kind: str
    in_error: bool
    health: str
    memory: Memory
    since: datetime | None
    flaps: int


@dataclass(frozen=True)
class Judged:
    watched: Watched
    verdict: Verdict
    why: str
    memory: Memory
    act: Act


def sweep(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """One turn; None when another is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run(NAME, every_s=EVERY_S, lease_s=LEASE_S, work=_work, soonest_s=soonest_s)


def _work(turn: sweeps.Turn) -> sweeps.Outcome:
    watched = watch()
    findings = excuse(watched, probe(watched))
    judged = [_judge(w, *findings[w.pk], turn.number) for w in watched]
    with turn.writing():
        _remember(judged)
    todo = [j for j in judged if j.act != Act.NONE]
    for item in todo[:ACTS_PER_TURN]:
        _act(item, turn)
    return sweeps.Outcome(len(watched), sum(j.verdict != Verdict.OK for j in judged))


def watch() -> list[Watched]:
    """Who is asked: meant to run and seen to run, or given up by this sweep; and left alone by runs."""
    rows = (
        Tenant.objects.filter(desired=Desired.RUNNING, port__isnull=False, handle__isnull=False)
        .filter(Q(status=Status.RUNNING) | Q(status=Status.ERROR, reason__in=OURS))
        .exclude(health.left_alone())
        .exclude(node__state=Node.State.DISABLED)
    )
    return [watched for row in rows.values(*COLUMNS) if (watched := _watched_safely(row))]


def _watched_safely(row: Mapping[str, Any]) -> Watched | None:
    """None for a row that makes no sense, such as one of a kind that the settings no longer have."""
    return contained(lambda: _watched(row), None, what="tenant can't be watched", tenant_id=row["pk"])


def _watched(row: Mapping[str, Any]) -> Watched:
    bad, good, restarts = (row[f"health_state__{name}"] for name in ("strikes", "successes", "restarts"))
    return Watched(
        pk=row["pk"],
        node_id=row["node_id"],
        url=f"http://{row['node__address']}:{row['port']}{agent_kind(row['agent_kind']).health_path}",
        kind=row["agent_kind"],
        in_error=row["status"] == Status.ERROR,
        health=row["health"],
        memory=Memory(bad or 0, good or 0, tuple(restarts or ())),
        since=row["health_state__since"],
        flaps=flapping.flaps_of(row["health_state__evidence"]),
    )


def probe(watched: Iterable[Watched]) -> dict[int, tuple[Verdict, str]]:
    """A verdict and the reason for it, by the tenant's key."""
    kinds = {w.pk: w.kind for w in watched}
    return probing.ask(((w.pk, w.url) for w in watched), lambda key, answer: _verdict(kinds[key], answer))


def _verdict(kind: str, answer: probing.Answer) -> tuple[Verdict, str]:
    if answer.error:
        return (Verdict.UNKNOWN if answer.error == "ours" else Verdict.FAILING), answer.error
    healthy = is_healthy(kind, answer.status, answer.body)
    return (Verdict.OK, "") if healthy else (Verdict.FAILING, "status")


def excuse(watched: Iterable[Watched], findings: Mapping[int, tuple[Verdict, str]]) -> dict[int, tuple[Verdict, str]]:
    """Those of a node in trouble are not failing but unknown."""
    by_node: dict[int, list[int]] = defaultdict(list)
    for w in watched:
        by_node[w.node_id].append(w.pk)
    excused = dict(findings)
    for node, keys in by_node.items():
        failing = [key for key in keys if findings[key][0] == Verdict.FAILING]
        if failing and (trouble := _trouble(node, failing=len(failing), asked=len(keys))):
            excused.update(dict.fromkeys(failing, (Verdict.UNKNOWN, trouble)))
    return excused


def _trouble(node_id: int, *, failing: int, asked: int) -> str:
    """What is wrong with the node itself: its engine, or everything on it; empty when neither."""
    node = Node.objects.get(pk=node_id)
    said = contained(runtime_for(node).check, None, what="engine in trouble, nobody is blamed", node=node.name)
    if said is None:
        return "engine"
    if failing == asked >= TROUBLE_FROM:
        log.warning("nobody answers, so nobody is blamed", extra={"node": node.name, "agents": asked})
        return "node"
    return ""


def _judge(watched: Watched, verdict: Verdict, why: str, turn: int) -> Judged:
    if verdict == Verdict.OK and watched.flaps >= flapping.LIMIT:
        verdict, why = Verdict.FAILING, "flapping"
    memory, act = strikes.judge(watched.memory, verdict, in_error=watched.in_error, turn=turn)
    return Judged(watched, verdict, why, memory, act)


def _remember(judged: Iterable[Judged]) -> None:
    """Only what differs is written: in a healthy fleet nothing."""
    items = list(judged)
    differs = [j for j in items if j.watched.health != j.verdict]
    health.note({j.watched.pk: Health(j.verdict) for j in differs}, {j.watched.pk: j.why for j in differs})
    moved = [j for j in items if j.memory != j.watched.memory or j.watched.health != j.verdict]
    _keep([_state(j.watched, j.memory, why=j.why, is_new=j.watched.health != j.verdict) for j in moved])


def _state(watched: Watched, memory: Memory, *, why: str, is_new: bool = False) -> HealthState:
    return HealthState(
        tenant_id=watched.pk,
        strikes=memory.strikes,
        successes=memory.successes,
        restarts=list(memory.restarts),
        since=clock.now() if is_new or watched.since is None else watched.since,
        evidence=flapping.with_flaps({"probe": why} if why else {}, watched.flaps),
    )


def _keep(states: list[HealthState]) -> None:
    """All in a few statements: when a whole fleet fails, no other writer waits for a thousand."""
    HealthState.objects.bulk_create(
        states,
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["tenant"],
        update_fields=["strikes", "successes", "restarts", "since", "evidence"],
    )


def _act(item: Judged, turn: sweeps.Turn) -> None:
    """Nothing that goes wrong with one keeps the others from being helped."""
    contained(lambda: _help(item, turn), None, what="tenant can't be helped now", tenant_id=item.watched.pk)


def _help(item: Judged, turn: sweeps.Turn) -> None:
    tenant = Tenant.objects.select_related("node", "plan", "config").get(pk=item.watched.pk)
    try:
        if item.act == Act.TAKE_BACK:
            services.repair(tenant=tenant, cause="healthy_again")
        else:
            _mend(tenant, item, turn)
    except Conflict as error:
        log.info("left to somebody else", extra={"tenant": tenant.slug, "type": error.type})


def _mend(tenant: Tenant, item: Judged, turn: sweeps.Turn) -> None:
    """Look, then restart, wait, or give up."""
    if tenant.agent_handle is None:
        return
    seen = runtime_for(tenant.node).inspect(tenant.agent_handle)
    if seen.state != AgentState.RUNNING:
        return  # stopped or removed behind our back: drift, and reconcile's
    age_s = (clock.now() - seen.started_at).total_seconds() if seen.started_at else None
    if strikes.is_starting(item.memory, age_s=age_s, grace_s=agent_kind(tenant.agent_kind).start_grace_s):
        return
    now = strikes.may_restart(item.memory, turn.number)
    if now is False:
        return
    reason, detail = diagnosis.reason_of(tenant, seen, item.why)
    if now:
        services.restart(actor=SYSTEM, tenant=tenant, cause=f"{reason}: {detail}")
        with turn.writing():
            memory = strikes.restarted(item.memory, turn.number)
            _keep([_state(replace(item.watched, flaps=0), memory, why=item.why)])
    elif health.give_up(tenant=tenant, reason=reason, detail=detail):
        reconcile.sync_routes()
