"""A whole installation to break, and ``assert_world``: what must be true of it after every fault.

Real agents on the process runtime, a real Caddy behind a wire, a real database file. One is kept for many cells: it
holds a neighbour that runs, a neighbour that is stopped, and the subject that the faults are about.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.test import override_settings

from audit.models import AuditEntry
from audit.services import verify_chain
from tenants import configuration, reconcile, routes, runtimes, services
from tenants.models import Event, Node, Run, StepRecord, Tenant
from tenants.probe import probe
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState, Observed, Runtime
from tenants.states import ACTIVE_RUN, Desired, Health, RunStatus, Status
from tests import processes, slot
from tests.caddy import RealCaddy, real_caddy
from tests.factories import NodeFactory, PlanFactory
from tests.faults.kernel import assert_nothing_unseen
from tests.faults.wire import Wire
from vault.services import create_keyring
from zcplatform.lib.actors import OPERATOR, SYSTEM
from zcplatform.lib.redact import SecretStr

TURNS = 60
DOWN = {Status.STOPPED, Status.SUSPENDED}
PAST: tuple[type[Model], ...] = (AuditEntry, Event, StepRecord, Run)
ENDS = {"run.finish", "run.cancel", "tenant.deleted"}


class World:
    """``wire`` stands before Caddy's admin socket, ``engine`` before the container engine's, where there is one;
    ``log`` is what the workers have logged."""

    def __init__(self, caddy: RealCaddy, wire: Wire, nodes: list[Node], engine: Wire | None = None) -> None:
        self.caddy, self.wire, self.nodes, self.engine = caddy, wire, nodes, engine
        self.node = nodes[0]
        self.home = caddy.folder
        self.log = self.home / "workers.log"
        self.canaries = [f"canary-{secrets.token_hex(12)}" for _ in range(2)]
        self.subject: Tenant | None = None
        self.made = 0
        self.mark()
        self.neighbours = [self.tenant("Neighbour"), self.tenant("Sleeper")]
        for neighbour in self.neighbours:
            self.drive(services.deploy(actor=OPERATOR, tenant=neighbour))
        self.drive(services.stop(actor=OPERATOR, tenant=self.neighbours[1]))
        self.untouched = self.photo()

    def mark(self) -> None:
        """What was written until now has been looked at: a world of a thousand faults has a long past."""
        self.since = {model: model.objects.order_by("-pk").values_list("pk", flat=True).first() or 0 for model in PAST}

    def recent(self, model: type[Model]) -> QuerySet[Any]:
        return model._default_manager.filter(pk__gt=self.since[model])

    @property
    def runtime(self) -> Runtime:
        return runtimes.runtime_for(self.node)

    def observed(self) -> list[Observed]:
        """Every agent of every node, whatever its state."""
        return [seen for node in self.nodes for seen in runtimes.runtime_for(node).list()]

    def tenant(self, name: str, node: Node | None = None) -> Tenant:
        """A draft whose configuration holds two canary secrets."""
        given = configuration.ConfigInput(
            provider="openai",
            model="gpt-4o",
            provider_key=SecretStr(self.canaries[0]),
            channels=(("webhook", {"secret": self.canaries[1]}),),
        )
        made = services.create_tenant(
            actor=OPERATOR, name=name, plan="pro", runtime=(node or self.node).runtime, config=given, agent="demo"
        )
        return made.tenant

    def restart_caddy(self) -> None:
        """Killed, and started empty."""
        self.caddy.kill()
        with override_settings(CADDY_ADMIN=""):  # its own socket, not the wire's
            self.caddy.start()

    # --- runs ----------------------------------------------------------------------------------------------

    def worker(self, run: Run, failpoint: str = "") -> int:
        """A real process that executes the run once, with ``failpoint`` armed; returns its process id."""

        def act() -> None:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
            execute(run.pk, PROCEDURE)

        return processes.start(act, failpoint)

    def expire(self, run: Run) -> None:
        """The lease of a dead or frozen worker has run out; what is parked is due."""
        Run.objects.filter(tenant=run.tenant_id, lease_until__isnull=False).update(lease_until=Now())
        Run.objects.filter(pk=run.pk, status=RunStatus.PARKED).update(next_attempt_at=Now())

    def drive(self, run: Run) -> Run:
        """Other workers, until the run ends."""
        for _ in range(TURNS):
            self.expire(run)
            execute(run.pk, PROCEDURE)
            run.refresh_from_db()
            if not run.is_active:
                return run
        raise AssertionError(f"{run} does not end: {run.status} {run.reason} {run.error}")

    def settle(self) -> list[str]:
        """Reconcile until nothing is left to do; returns what was found on the way."""
        found: list[str] = []
        for _ in range(TURNS):
            for run in Run.objects.filter(status__in=ACTIVE_RUN):
                self.drive(run)
            what = []
            for node in self.nodes:
                seen = reconcile.look(node, thorough=True)
                reconcile.act(node, seen)
                what += [d.difference.what for d in seen if d.difference.action != "report"]
            what += [d.what for d in reconcile.sync_routes()]
            found += what
            if not what:
                return found
        raise AssertionError(f"it does not settle: {found[-5:]}")

    # --- the subject ---------------------------------------------------------------------------------------

    def fresh(self) -> Tenant:
        assert self.subject is not None
        self.subject = Tenant.objects.select_related("node", "plan", "config").get(pk=self.subject.pk)
        return self.subject

    def draft(self) -> Tenant:
        if self.subject is not None and self.fresh().status != Status.DELETED:
            self.drive(services.delete(actor=OPERATOR, tenant=self.subject, purge=True))
        self.made += 1
        self.subject = self.tenant(f"Subject {self.made}")
        return self.fresh()

    def arrange(self, status: Status) -> Tenant:
        """The subject in this state, by ordinary means."""
        if self.subject is None or self.fresh().status == Status.DELETED:
            self.draft()
        tenant = self.fresh()
        if tenant.desired == Desired.SUSPENDED and status != Status.SUSPENDED:
            self.drive(services.reactivate(actor=OPERATOR, tenant=tenant))
        if self.fresh().status == status:
            return tenant
        if status == Status.RUNNING or (status in DOWN and tenant.status == Status.DRAFT):
            self.drive(services.deploy(actor=OPERATOR, tenant=tenant))
        if status == Status.STOPPED:
            self.drive(services.stop(actor=OPERATOR, tenant=tenant))
        if status == Status.SUSPENDED:
            self.drive(services.suspend(actor=OPERATOR, tenant=tenant))
        tenant = self.fresh()
        assert tenant.status == status, (tenant.status, tenant.reason, tenant.detail)
        return tenant

    # --- looking -------------------------------------------------------------------------------------------

    def photo(self) -> dict[int, Any]:
        """Handle, start and configuration of each neighbour: what a fault of somebody else must leave alone."""
        rows = Tenant.objects.filter(pk__in=[n.pk for n in self.neighbours]).order_by("pk")
        seen = {item.tenant: item for item in self.observed()}
        return {
            t.pk: (t.status, t.port, t.uid, t.handle, t.config_hash, _life(seen.get(str(t.public_id)))) for t in rows
        }

    def counts(self) -> tuple[Any, ...]:
        """Whatever a reconcile that changes nothing leaves as it is."""
        rows = [model.objects.count() for model in (Tenant, Run, StepRecord, AuditEntry, Event)]
        tenants = list(Tenant.objects.order_by("pk").values_list("pk", "status", "desired", "handle", "updated_at"))
        agents = sorted((s.handle.id, s.state, str(s.started_at)) for s in self.observed())
        return rows, tenants, agents, self.caddy.server()


def _life(seen: Observed | None) -> Any:
    return seen and (seen.handle.id, seen.state, seen.started_at, seen.restarts)


@contextmanager
def own_database(folder: Path) -> Iterator[None]:
    """A database of this world's own: a test's rows are emptied between tests, and these must stay. A database file
    lies in ``folder``, where the disk may be full."""
    before, test = connection.settings_dict["NAME"], connection.settings_dict["TEST"]
    name = f"test_world_{secrets.token_hex(4)}"
    connections.close_all()
    file = str(folder / "world.db")
    connection.settings_dict["TEST"] = {**test, "NAME": file if connection.vendor == "sqlite" else name}
    try:
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        yield
    finally:
        connections.close_all()
        connection.creation.destroy_test_db(before, verbosity=0)
        connection.settings_dict["TEST"] = test


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """A folder on a real file system of so many MB; needs root."""
    folder = Path(tempfile.mkdtemp(prefix="zct-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "zcplatform-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


@contextmanager
def removed_at_the_end(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder)


def _node(kind: str, endpoint: str) -> Node:
    first, last = {"process": slot.PROCESSES, "docker": slot.CONTAINERS}[kind]
    return NodeFactory(name=f"fire-{kind}", runtime=kind, endpoint=endpoint, port_first=first, port_last=last)


@contextmanager
def installed(*kinds: str, engine: Path | None = None, disk: Path | None = None) -> Iterator[World]:
    """A world with a node of each of ``kinds`` and its own database, folder, Caddy and ports; everything goes at the
    end. ``engine`` is the socket of another container engine than the one that everybody uses."""
    patch, folder = pytest.MonkeyPatch(), Path(tempfile.mkdtemp(prefix="zct-fire-", dir=disk))
    folder.chmod(0o711)
    with removed_at_the_end(folder), override_settings(), own_database(folder), real_caddy(settings, folder) as caddy:
        ends = Path(tempfile.mkdtemp(prefix="zcw-"))  # never on the disk that is filled
        wires = [Wire(ends / "caddy.sock", caddy.socket)]
        settings.CADDY_ADMIN = str(wires[0].front)
        settings.ALLOW_UNPRIVILEGED_PROCESS = True
        if "docker" in kinds:
            back = engine or Path(settings.DOCKER_HOST.removeprefix("unix://"))
            wires.append(Wire(ends / "engine.sock", back))
        patch.setattr("tenants.queue.async_task", lambda *a, **k: None)
        patch.setattr(reconcile, "RETRY_DELETE", timedelta(0))
        runtimes._driver.cache_clear()
        create_keyring(actor=SYSTEM)
        PlanFactory()
        PlanFactory(slug="big", name="Big", memory_limit_mb=2_048)
        nodes = [_node(kind, f"unix://{wires[1].front}" if kind == "docker" else "") for kind in kinds]
        for node in nodes:  # the engine is everybody's: what another test left there would count as this world's
            clear(runtimes.runtime_for(node))
        try:
            yield World(caddy, wires[0], nodes, wires[1] if wires[1:] else None)
            assert verify_chain().fault is None, "W7: the whole chain"
        finally:
            for wire in wires:
                wire.heal()
            for node in nodes:
                clear(runtimes.runtime_for(node))
            for wire in wires:
                wire.down()
            shutil.rmtree(ends)
            patch.undo()


def clear(runtime: Runtime) -> None:
    for seen in runtime.list():
        runtime.remove(seen.handle)
    runtime.remove_unused_networks()


# --- what must be true ----------------------------------------------------------------------------------------


def assert_world(world: World, *, steady: bool = True) -> None:
    """W1-W9 of the fault catalogue. With ``steady`` no run is active, and reconcile agrees and changes nothing."""
    agents = {item.tenant: item for item in world.observed()}
    alive = list(Tenant.objects.alive().select_related("node", "plan"))
    assert_agents(world, alive, agents)
    assert_slots(alive)
    assert_routes(world, alive)
    assert_disk(world, alive)
    assert_status(alive, agents)
    assert_nothing_unseen(world, alive)
    assert_audit(world)
    assert_no_canary(world)
    assert world.photo() == world.untouched, "W8: a neighbour was touched"
    if steady:
        assert_steady(world)


def assert_agents(world: World, alive: list[Tenant], agents: dict[str, Observed]) -> None:
    """W1: one agent per row at most, and it is the one that the row names."""
    assert len(agents) == len(world.observed()), "W1: two agents of one tenant"
    rows = {str(t.public_id): t for t in alive}
    for public_id, seen in agents.items():
        assert public_id in rows, f"W1: an agent of no living tenant: {seen}"
        tenant = rows[public_id]
        assert tenant.agent_handle == seen.handle, f"W1: {tenant.slug} has an agent that its row does not name"
        assert (seen.port, seen.fingerprint) == (tenant.port, tenant.fingerprint), f"W2: {tenant.slug}"


def assert_slots(alive: list[Tenant]) -> None:
    """W2: nobody shares a port or a uid, and deleted rows hold none."""
    for name in ("slot", "port", "uid"):
        held = Counter((t.node_id, value) for t in alive if (value := getattr(t, name)) is not None)
        assert [value for value, times in held.items() if times > 1] == [], f"W2: {name} is held twice"
    gone = Tenant.objects.filter(status=Status.DELETED).exclude(slot=None, port=None, uid=None)
    assert not gone.exists(), "W2: a deleted tenant holds a slot"


def assert_routes(world: World, alive: list[Tenant]) -> None:
    """W3: Caddy's routes are the running tenants', each to its own port, and the platform's are whole."""
    wanted = {f"zc-{t.public_id}": t.port for t in alive if t.status == Status.RUNNING}
    assert dials(world.caddy.server()) == wanted, "W3"
    assert not routes.differences(), "W3: the router differs from the rows"


def dials(server: Any) -> dict[str, int]:
    """The port that each tenant's route leads to, read from Caddy's own configuration."""
    found = {}
    for route in server["routes"][2]["handle"][-1]["routes"]:
        upstream = json.dumps(route).partition('"dial": "127.0.0.1:')[2].partition('"')[0]
        found[route["@id"]] = int(upstream)
    return found


def assert_disk(world: World, alive: list[Tenant]) -> None:
    """W4: a folder for each tenant that runs, the tenant's alone; nobody else's, and nothing half written."""
    wanted = {str(t.public_id) for t in alive if t.status == Status.RUNNING}
    there = {path.name for path in (world.home / "tenants").glob("*")}
    assert wanted <= there, "W4: a folder is missing"
    assert there <= {str(t.public_id) for t in alive}, "W4: a folder of nobody"
    assert [str(p) for p in world.home.rglob("*.tmp")] == [], "W4: half a file"
    for tenant in alive:
        for part in ("config", "data"):
            path = tenant.folder / part
            if path.is_dir() and tenant.status == Status.RUNNING:
                found = (path.stat().st_mode & 0o777, path.stat().st_uid)
                assert found == (0o700, tenant.uid if os.geteuid() == 0 else os.geteuid()), f"W4: {path}"


def assert_status(alive: list[Tenant], agents: dict[str, Observed]) -> None:
    """W5: what the row says is so."""
    busy = set(Run.objects.filter(status__in=ACTIVE_RUN).values_list("tenant_id", flat=True))
    for tenant in alive:
        seen = agents.get(str(tenant.public_id))
        up = seen is not None and seen.state == AgentState.RUNNING
        if tenant.status == Status.RUNNING:
            assert up and tenant.routed and tenant.health == Health.OK, f"W5: {tenant.slug} is called running"
            assert probe(tenant), f"W5: {tenant.slug} does not answer"
        elif tenant.pk not in busy:
            assert not up, f"W5: {tenant.slug} is {tenant.status} and runs"
            assert not tenant.routed, f"W5: {tenant.slug} is {tenant.status} and routed"
        if tenant.pk not in busy:
            assert tenant.status not in (Status.DEPLOYING, Status.DELETING), f"W5: {tenant.slug} is stuck"


def assert_audit(world: World) -> None:
    """W7: the chain holds; every run that began has a beginning and an end in the audit, however it went."""
    recent = list(world.recent(AuditEntry).order_by("pk").values_list("previous_hash", "hash"))
    assert all(before[1] == after[0] for before, after in pairwise(recent)), "W7: the chain is broken"
    told: dict[str, set[str]] = {}
    rows = world.recent(AuditEntry).filter(action__in=ENDS | {"run.start", "run.interrupt"})
    for action, detail in rows.values_list("action", "detail_json"):
        told.setdefault(json.loads(detail)["run"], set()).add(action)
    for run in world.recent(Run).exclude(status__in=ACTIVE_RUN):
        actions = told.get(str(run.public_id), set())
        assert actions & ENDS, f"W7: the end of {run} is not told"
        assert run.started_at is None or "run.start" in actions, f"W7: the beginning of {run} is not told"
        assert run.interruptions == 0 or "run.interrupt" in actions, f"W7: {run} was interrupted and nobody is told"


def assert_no_canary(world: World) -> None:
    """W7: no secret in any log, audit row, event, step result or error."""
    texts = [world.log.read_text() if world.log.exists() else ""]
    texts += [path.read_text(errors="replace") for path in (world.home / "tenants").glob("*/logs/*") if path.is_file()]
    texts += [str(list(world.recent(AuditEntry).values_list("detail_json")))]
    texts += [str(list(world.recent(Event).values_list("data")))]
    texts += [str(list(world.recent(StepRecord).values_list("result", "error")))]
    texts += [str(list(world.recent(Run).values_list("error", "params")))]
    texts += [str(list(Tenant.objects.values_list("detail")))]
    for canary in [*world.canaries, *agent_tokens(world)]:
        assert not [text for text in texts if canary in text], "W7: a secret was told"


def agent_tokens(world: World) -> list[str]:
    """The bearers by which the platform speaks to the agents, from the agents' own files: read without the vault, which
    would write an audit row for it."""
    files = (world.home / "tenants").glob("*/config/demo.json")
    tokens = [json.loads(path.read_text()).get("token") for path in files if os.access(path, os.R_OK)]
    return [token for token in tokens if token]


def assert_steady(world: World) -> None:
    """W6: reconcile finds nothing, and neither the first nor the second pass writes anything."""
    assert not Run.objects.filter(status__in=ACTIVE_RUN).exists(), "W6: a run is still active"
    found = [f.difference for node in world.nodes for f in reconcile.look(node, thorough=True)]
    reports = [difference for difference in found if difference.action == "report"]
    assert found == reports, "W6"
    before = world.counts()
    assert [reconcile.sweep(), reconcile.sweep()] == [len(reports)] * 2, f"W6: reconcile acts beside {reports}"
    assert world.counts() == before, "W6: reconcile writes"
