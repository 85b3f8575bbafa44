"""Looking at what runs: engines, router, agents, workers, runs."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Now

from monitoring import heartbeats
from tenants import reconcile, routes, strays
from tenants.egress import firewall, upkeep
from tenants.egress.policy import mode_of
from tenants.hardening import deviations
from tenants.models import Node, Run, Tenant
from tenants.provisioning.allocation import agents_among, is_here
from tenants.routing import router
from tenants.runtimes import runtime_for
from tenants.runtimes.base import EngineInfo
from tenants.states import ACTIVE_RUN, RunStatus, Status
from zcplatform.doctor.findings import Looked
from zcplatform.lib import ports
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.words import count

DOCKER_MIN = (29, 3, 1)
CADDY_MIN = (2, 11)
RUN_LIMIT = timedelta(hours=1)
LEASE_LIMIT = timedelta(minutes=2)
FENCED_RUNTIMES = ("docker", "process")
SLOW_DRIVERS = ("vfs", "devicemapper")


def engines() -> Looked:
    """One look per node: whether its engine answers, its version, and what it says of itself."""
    for node in _nodes():
        try:
            info = runtime_for(node).check()
        except DependencyDown as error:
            yield "error", f"Node {node.name}: {error.message}", f"Start the engine ({node.runtime}) and look again."
            continue
        yield from _of_docker(node, info) if info.kind == "docker" else _of_process(node, info)
        yield "ok", f"Node {node.name} answers: {info.kind} {info.version}".strip(), ""


def _of_docker(node: Node, info: EngineInfo) -> Looked:
    if _older(info.version, DOCKER_MIN):
        wanted = ".".join(map(str, DOCKER_MIN))
        yield "warning", f"Node {node.name}: Docker {info.version} has known holes mended in {wanted}.", "Upgrade it."
    if (driver := info.detail["storage_driver"]) in SLOW_DRIVERS:
        yield "warning", f"Node {node.name}: the storage driver {driver} is slow and large.", "Use overlay2."
    for line in info.detail["warnings"]:
        yield "warning", f"Node {node.name}: {line.removeprefix('WARNING: ')}", "See the engine's documentation."


def _of_process(node: Node, info: EngineInfo) -> Looked:
    if info.detail.get("agents_run_as") != "caller":
        return
    what = f"Node {node.name}: agents can't have users of their own, since {info.detail['why']}."
    todo = info.detail["todo"]
    if info.detail["allowed"]:
        yield "warning", what, todo
        return
    todo += " To try things out, ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS=1 lets them share the platform's user."
    yield "error", what, todo


def routing() -> Looked:
    """Whether the router answers, keeps streams, and has exactly the routes of the database."""
    try:
        info, result = router().check(), routes.differences()
    except DependencyDown as error:
        yield "error", error.message, "Start the router; serve starts its own."
        return
    if info.kind == "caddy" and _older(info.version, CADDY_MIN):
        what = f"Caddy {info.version} cuts open streams at every change of the routes."
        yield "warning", what, "Use 2.11 or newer; the extra “caddy” brings one."
    if found := reconcile.route_differences(result):
        what = f"{count(len(found), 'route')} not as the database says: {', '.join(sorted({d.what for d in found}))}."
        yield "warning", what, "Run: zcplatform reconcile"
    else:
        yield "ok", f"{info.kind} {info.version}".rstrip() + " has every route", ""


def differences() -> Looked:
    """What reconcile would repair, and what bears our label and belongs to nobody."""
    for node in _answering():
        for item in reconcile.look(node):
            difference = item.difference
            whose = difference.slug or difference.detail or difference.tenant
            if difference.what == "agent_unknown":
                what = f"{whose} bears this installation's label and belongs to no tenant that was brought up."
                yield "error", what, "Look at it, then remove it; reconcile stops it."
            elif difference.what == strays.UNSEEN:
                what = f"{whose}: {difference.detail} runs, and no record tells of it."
                yield "error", what, "Run: zcplatform reconcile, which ends it."
            else:
                yield "warning", f"{whose}: {difference.what}", "Run: zcplatform reconcile"


def hardening() -> Looked:
    """Every running agent against what its spec asks for."""
    nodes = _answering()
    rows = Tenant.objects.filter(node__in=nodes, status=Status.RUNNING).select_related("node", "plan", "config")
    looked = 0
    for tenant in rows:
        looked += 1
        for line in deviations(tenant):
            yield "error", f"{tenant.slug}: {line}", f"Run: zcplatform stop {tenant.slug}, and then start."
    yield "ok", f"{count(looked, 'running agent')} compared with what was asked for", ""


def egress() -> Looked:
    """Whether the firewall holds our rules, and which tenants have a mode that nothing enforces."""
    for node in _nodes():
        if node.runtime in FENCED_RUNTIMES and (why := upkeep.why_not(node)):
            yield "warning", f"Node {node.name}: agents may connect to anything, since {why}.", "See docs/egress.md."
    if upkeep.guards_networks():
        for line in firewall.differences():
            yield "error", line, "Run: zcplatform reconcile"
    for tenant in upkeep.unfenced():
        what = f"{tenant.slug}: its mode “{mode_of(tenant)}” is not enforced."
        yield "error", what, "Move it to the runtime docker on this host, with the platform run by root."


def foreign_ports() -> Looked:
    """Agents that listen at ports of a range that are not their own: nobody else is given these meanwhile."""
    owners = {(t.uid, t.port): t.slug for t in Tenant.objects.filter(uid__isnull=False)}
    names = {uid: slug for (uid, _), slug in owners.items()}
    found: dict[int, set[int]] = defaultdict(set)
    listening = ports.listeners()
    for node in Node.objects.all():
        for port in range(node.port_first, node.port_last + 1) if is_here(node) else ():
            for uid in agents_among(listening.get(port, ())):
                if (uid, port) not in owners:
                    found[uid].add(port)
    for uid, held in sorted(found.items()):
        who = names.get(uid, "no tenant any more")
        what = f"The agent of uid {uid} ({who}) listens at {count(len(held), 'port')} not its own, such as {min(held)}."
        yield "error", what, "Suspend its tenant and look at what it does."


def workers() -> Looked:
    """Heartbeats of the clusters."""
    for name in heartbeats.silent():
        yield (
            "error",
            f"The workers of {name} gave no sign of life for {heartbeats.STALE_S:.0f} s.",
            "Is serve running?",
        )
    for name in heartbeats.late():
        yield "error", f"The task {name} has begun and does not end.", "The log says what it waits for; restart serve."


def runs() -> Looked:
    """Runs that do not come to an end, and runs whose worker is gone and that nobody took over."""
    active = Run.objects.filter(status__in=ACTIVE_RUN).select_related("tenant")
    left = active.filter(status=RunStatus.RUNNING, lease_until__lt=Now() - LEASE_LIMIT)
    for run in left:
        yield "error", f"{run.tenant.slug}: the worker of its {run.kind} is gone.", "Is serve running?"
    for run in active.filter(created_at__lt=Now() - RUN_LIMIT).exclude(pk__in=left).order_by(F("created_at")):
        waits = f": {run.get_reason_display()}" if run.reason else ""
        what = f"{run.tenant.slug}: its {run.kind} has been {run.status} for over an hour{waits}."
        yield "warning", what, f"Mend what it waits for, or run: zcplatform stop {run.tenant.slug}"


def _nodes() -> list[Node]:
    return list(Node.objects.exclude(state=Node.State.DISABLED).order_by("name"))


def _answering() -> list[Node]:
    """A silent engine is told once, by ``engines``."""
    return [node for node in _nodes() if _answers(node)]


def _answers(node: Node) -> bool:
    try:
        runtime_for(node).check()
    except DependencyDown:
        return False
    return True


def _older(version: str, wanted: tuple[int, ...]) -> bool:
    """False for a version that is not to be read."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[: len(wanted)])
    return bool(numbers) and numbers < wanted
