"""Desired against observed: agents, routes, folders, configurations. A repair is a run like any other.

A first look only reads. Tenants with an active run are left to that run. What bears our label but belongs to no
tenant of ours is stopped and reported, never deleted silently; what does not bear our label is never looked at.
"""

from __future__ import annotations

import logging
import os
import stat
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db import transaction
from django.db.models import Exists, OuterRef

from audit.services import Target, record
from tenants import hardening, routes, services, strays
from tenants.egress import upkeep
from tenants.models import Node, Run, Tenant
from tenants.provisioning.spec import hash_files
from tenants.routing.base import SyncResult
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentState, Observed, Runtime, Stray
from tenants.states import ACTIVE_RUN, Desired, RunKind, Status
from zcplatform.lib import claims, clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import Conflict, DependencyDown, FaultError, RunFailed

log = logging.getLogger(__name__)

LEASE_S = 120.0
RETRY_DELETE = timedelta(minutes=1)
SWEEP_S = 30  # how often the schedule has it swept
TURNS = 10
"""Every agent is compared with its spec in one of so many sweeps."""


@dataclass(frozen=True)
class Difference:
    """``what`` is found, ``action`` what reconcile does about it: repair, remove, end, quarantine, report or route."""

    what: str
    action: str
    tenant: str = ""
    slug: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Found:
    """A difference together with what it takes to act on it."""

    difference: Difference
    tenant: Tenant | None = None
    seen: Observed | None = None


def look(node: Node, *, thorough: bool = False) -> list[Found]:
    """Everything on this node that is not as it should be; reads only. DependencyDown when the engine is. Where
    reading configurations is not cheap, they are compared in a ``thorough`` look only."""
    runtime = runtime_for(node)
    tenants = _settled(node)
    by_tenant: dict[str, list[Observed]] = defaultdict(list)
    for seen in runtime.list():
        by_tenant[seen.tenant].append(seen)
    known = {str(t.public_id): t for t in tenants}
    found = [item for i, t in known.items() for item in _seen_safely(runtime, t, by_tenant[i], thorough=thorough)]
    return found + _orphans(node, by_tenant, known) + [_unseen(*pair) for pair in strays.look(node, runtime, tenants)]


def _unseen(stray: Stray, tenant: Tenant | None) -> Found:
    slug = tenant.slug if tenant else ""
    return Found(Difference(strays.UNSEEN, "end", stray.tenant, slug, stray.what), tenant)


def _seen_safely(runtime: Runtime, tenant: Tenant, seen: list[Observed], *, thorough: bool) -> list[Found]:
    """What one tenant has put into its folder must not keep the others from being looked at."""
    unreadable = [Found(_difference("unreadable", "report", tenant), tenant)]

    def of_tenant() -> list[Found]:
        with _whose_trouble(runtime):
            return _of_tenant(runtime, tenant, seen, thorough=thorough)

    return contained(
        of_tenant, unreadable, what="tenant can't be looked at", passing=(DependencyDown,), tenant=tenant.slug
    )


@contextmanager
def _whose_trouble(runtime: Runtime) -> Iterator[None]:
    """What did not answer may be the engine, and then nothing more is asked of it (DependencyDown), or one tenant's
    folder or agent, and then the others have their turn (RunFailed)."""
    try:
        yield
    except DependencyDown as error:
        runtime.check()
        raise RunFailed(error.message, type=error.type) from error


def act(node: Node, found: Iterable[Found]) -> list[Run]:
    """Do what each difference calls for; returns the runs that were asked for."""
    runtime, runs = runtime_for(node), []
    for item in found:
        run = contained(
            partial(_act_safely, runtime, item),
            None,
            what="difference can't be settled",
            passing=(DependencyDown,),
            tenant=item.difference.slug,
            difference=item.difference.what,
        )
        if run is not None:
            runs.append(run)
    return runs


def _act_safely(runtime: Runtime, item: Found) -> Run | None:
    try:
        with _whose_trouble(runtime):
            return _act_on(runtime, item)
    except Conflict as error:
        # Somebody asked for something else in the meantime; that run will settle it.
        log.info("left to another run", extra={"tenant": item.difference.slug, "type": error.type})
        return None


def sweep() -> int:
    """Reconcile every active node once, under its lease; returns how many differences were acted on."""
    total = 0
    for node in Node.objects.exclude(state=Node.State.DISABLED):
        owner = f"{os.getpid()}:{uuid.uuid4().hex[:8]}"
        epoch = claims.claim(Node.objects.all(), pk=node.pk, owner=owner, seconds=LEASE_S)
        if epoch is None:
            continue
        try:
            total += _sweep_node(node)
        finally:
            claims.release(claims.held(Node.objects.all(), pk=node.pk, epoch=epoch))
    contained(upkeep.keep_firewall, None, what="firewall can't be kept")
    return total + len(sync_routes())


def look_at(node_id: int, public_ids: Iterable[str], agents: Iterable[str]) -> int:
    """Compare some tenants with the world in every respect, because something happened to them or to the agents with
    these handles' ids; returns how many differences were acted on. What a run is about is left to it."""
    node = Node.objects.get(pk=node_id)
    runtime, wanted, ids = runtime_for(node), set(public_ids), set(agents)
    total = 0
    for tenant in _settled(node):
        public_id = str(tenant.public_id)
        if public_id in wanted or (tenant.handle and tenant.handle["id"] in ids):
            look = partial(_look_at_one, node, runtime, tenant)
            total += contained(look, 0, what="tenant can't be looked at", passing=(DependencyDown,), tenant=tenant.slug)
    return total


def _look_at_one(node: Node, runtime: Runtime, tenant: Tenant) -> int:
    found = _seen_safely(runtime, tenant, runtime.find(str(tenant.public_id)), thorough=True)
    act(node, found)
    return len(found)


def _sweep_node(node: Node) -> int:
    """A node that can't be looked at keeps no other from being looked at, nor the routes."""

    def settle() -> int:
        found = look(node)
        act(node, found)
        runtime_for(node).tidy()
        return len(found)

    # Where an engine does not answer, unknown is not down: nobody is marked, the next sweep looks again.
    return contained(settle, 0, what="node can't be reconciled", node=node.name)


def sync_routes() -> list[Difference]:
    """Bring the router to the desired routes and tell what was wrong with it."""
    try:
        result = routes.sync()
    except FaultError as error:
        log.warning("routes can't be settled", extra={"type": error.type, "error": error.message})
        return []
    return route_differences(result)


def route_differences(result: SyncResult) -> list[Difference]:
    """A router's answer in reconcile's words."""
    rows = [("route_missing", t) for t in result.added]
    rows += [("route_changed", t) for t in result.changed]
    rows += [("route_unknown", t) for t in result.removed]
    differences = [Difference(what, "route", tenant=tenant) for what, tenant in rows]
    return differences + ([Difference("platform_route_missing", "route")] if result.platform else [])


def _settled(node: Node) -> list[Tenant]:
    active = Run.objects.filter(tenant=OuterRef("pk"), status__in=ACTIVE_RUN)
    rows = Tenant.objects.alive().filter(node=node).exclude(Exists(active)).exclude(status=Status.DRAFT)
    return list(rows.select_related("node", "plan"))


def _of_tenant(runtime: Runtime, tenant: Tenant, seen: list[Observed], *, thorough: bool = False) -> list[Found]:
    current = next((s for s in seen if tenant.handle and s.handle.id == tenant.handle["id"]), None)
    found = [
        Found(_difference("agent_superseded", "remove", tenant, f"epoch {s.epoch}"), tenant, s)
        for s in seen
        if s is not current and tenant.status != Status.DELETING
    ]
    cause = _cause(runtime, tenant, current, thorough=thorough)
    if cause:
        found.append(Found(_difference(cause, "repair", tenant), tenant, current))
    elif tenant.status in (Status.STOPPED, Status.SUSPENDED) and tenant.slot is not None and not _has_folder(tenant):
        # What it held is gone; its next start makes an empty one, which is for a person to know beforehand.
        found.append(Found(_difference(services.FOLDER_ABSENT, "report", tenant), tenant))
    return found


def _cause(runtime: Runtime, tenant: Tenant, current: Observed | None, *, thorough: bool = False) -> str:
    """Why the tenant needs a run, or nothing."""
    if tenant.desired == Desired.DELETED:
        return "deletion_unfinished" if _worth_retrying(tenant) else ""
    if tenant.desired != Desired.RUNNING:
        down = current is None or current.state in (AgentState.EXITED, AgentState.CREATED)
        return "" if down and tenant.status in (Status.STOPPED, Status.SUSPENDED, Status.ERROR) else "runs_unwanted"
    if tenant.status == Status.ERROR:
        # It failed for a reason; trying again is a person's decision.
        return ""
    if tenant.status != Status.RUNNING:
        return "deploy_unfinished"
    return (
        _agent_cause(tenant, current)
        or _folder_cause(runtime, tenant, thorough=thorough)
        or _drift_cause(runtime, tenant, thorough=thorough)
    )


def _agent_cause(tenant: Tenant, current: Observed | None) -> str:
    if current is None or current.state == AgentState.ABSENT:
        return "agent_absent"
    if current.state != AgentState.RUNNING:
        return "agent_down"
    return "agent_differs" if current.fingerprint != tenant.fingerprint else ""


def _folder_cause(runtime: Runtime, tenant: Tenant, *, thorough: bool = False) -> str:
    if not _has_folder(tenant):
        return services.FOLDER_ABSENT
    if not (thorough or runtime.folders.cheap):
        return ""  # a helper container for each tenant in each sweep would be the sweep's main work
    return "config_differs" if hash_files(runtime.folders.read_config(tenant.folder)) != tenant.config_hash else ""


def _has_folder(tenant: Tenant) -> bool:
    return all(_is_in_place(tenant, part) for part in ("config", "data"))


def _is_in_place(tenant: Tenant, part: str) -> bool:
    """A real folder, and the tenant's own where the platform can give it away."""
    try:
        found = (tenant.folder / part).lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (os.geteuid() != 0 or found.st_uid == tenant.uid)


def _drift_cause(runtime: Runtime, tenant: Tenant, *, thorough: bool) -> str:
    """Whether somebody changed the agent itself: its limits, its network. One look each, so a part of the tenants has
    its turn in each sweep. A plan that was edited is no such change: it waits for the next start."""
    turn = int(clock.now().timestamp() // SWEEP_S) % TURNS
    if tenant.agent_handle is None or not (thorough or tenant.pk % TURNS == turn):
        return ""
    spec = hardening.spec_of(tenant)
    if spec.fingerprint() != tenant.fingerprint:
        return ""
    return "agent_changed" if runtime.deviations(spec, tenant.agent_handle) else ""


def _worth_retrying(tenant: Tenant) -> bool:
    last = tenant.runs.filter(kind=RunKind.DEPROVISION).order_by("-pk").values_list("finished_at", flat=True).first()
    return last is None or clock.now() - last > RETRY_DELETE


def _orphans(node: Node, by_tenant: dict[str, list[Observed]], known: dict[str, Tenant]) -> list[Found]:
    others = [public_id for public_id in by_tenant if public_id not in known]
    rows = {str(t.public_id): t for t in Tenant.objects.filter(public_id__in=[i for i in others if _is_uuid(i)])}
    return [
        item for public_id in others for seen in by_tenant[public_id] for item in _orphan(rows.get(public_id), seen)
    ]


def _orphan(tenant: Tenant | None, seen: Observed) -> list[Found]:
    if tenant is None or tenant.status == Status.DRAFT:
        # Ours by label, but of no tenant that we know or have brought up: a restored database, say. It is stopped, and
        # stays to be looked at.
        running = seen.state == AgentState.RUNNING
        what = Difference("agent_unknown", "quarantine" if running else "report", seen.tenant, detail=seen.handle.name)
        return [Found(what, tenant, seen)]
    if tenant.status == Status.DELETED:
        return [Found(_difference("agent_of_deleted", "remove", tenant), tenant, seen)]
    return []


def _act_on(runtime: Runtime, item: Found) -> Run | None:
    difference, tenant, seen = item.difference, item.tenant, item.seen
    if difference.action == "end":
        strays.end(runtime, difference.tenant)
        return None
    if difference.action == "repair" and tenant is not None:
        return _repair(runtime, tenant)
    if seen is None or difference.action == "report" or (tenant is not None and not _is_left_over(tenant, seen)):
        return None
    if difference.action == "remove":
        runtime.remove(seen.handle)
    else:
        runtime.stop(seen.handle)
    with transaction.atomic():
        target = Target("agent", seen.handle.id[:64], seen.handle.name)
        record("platform.reconcile", actor=SYSTEM, target=target, tenant=seen.tenant, detail={"what": difference.what})
    return None


def _is_left_over(tenant: Tenant, seen: Observed) -> bool:
    """One more look before something is removed: a run may have made it the tenant's own in the meantime."""
    fresh = Tenant.objects.get(pk=tenant.pk)
    if fresh.runs.filter(status__in=ACTIVE_RUN).exists():
        return False
    return fresh.handle is None or fresh.handle["id"] != seen.handle.id


def _repair(runtime: Runtime, tenant: Tenant) -> Run | None:
    """Ask for a run, after one more look: a run may have come and gone between reading the engine and the rows."""
    fresh = Tenant.objects.select_related("node", "plan").get(pk=tenant.pk)
    seen = runtime.inspect(fresh.agent_handle) if fresh.agent_handle else None
    cause = _cause(runtime, fresh, seen, thorough=True)
    return services.repair(tenant=fresh, cause=cause) if cause else None


def _difference(what: str, action: str, tenant: Tenant, detail: str = "") -> Difference:
    return Difference(what, action, str(tenant.public_id), tenant.slug, detail)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
