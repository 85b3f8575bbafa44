"""A worker killed in the middle: real processes, the real demo agent on the process runtime, a real database file.

Each step of a deploy and of a deletion is killed before its side effect and after it, before it is recorded;
then another worker takes the run over and the world ends right.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from django.db import connections
from django.db.models.functions import Now

from audit.models import AuditEntry
from audit.services import verify_chain
from tenants import reconcile, runtimes, services
from tenants.models import Run, StepRecord, Tenant
from tenants.probe import probe
from tenants.provisioning import steps
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState
from tenants.states import RunStatus, Status, StepStatus
from tests import slot
from tests.factories import NodeFactory, PlanFactory
from zcplatform.lib import failpoints
from zcplatform.lib.actors import OPERATOR

FAST = ("create", "start", "publish_route", "mark_running", "stop", "remove", "archive_folder")
DEPLOY = [(step.name, where) for step in steps.CONVERGE for where in ("before", "after")]
DELETE = [(step.name, where) for step in steps.DEPROVISION for where in ("before", "after")]


def cells(all_of_them):
    """The steps with a side effect that could be done twice in every run of the suite, the others in the slow one."""
    return [pytest.param(*cell, marks=() if cell[0] in FAST else pytest.mark.slow) for cell in all_of_them]


@pytest.fixture
def node(transactional_db, vault_key, settings, tmp_path, monkeypatch):
    tmp_path.chmod(0o711)
    settings.HOME, settings.ROUTER, settings.ALLOW_UNPRIVILEGED_PROCESS = tmp_path, "direct", True
    monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
    runtimes._driver.cache_clear()
    node = NodeFactory(name="real", runtime="process", port_first=slot.PROCESSES[0], port_last=slot.PROCESSES[1])
    PlanFactory()
    yield node
    runtime = runtimes.runtime_for(node)
    for seen in runtime.list():
        runtime.remove(seen.handle)


def new_tenant():
    return services.create_tenant(actor=OPERATOR, name="Acme", plan="pro", runtime="process").tenant


def in_a_worker(run, failpoint):
    """Execute the run in a process of its own that the failpoint kills; returns the signal that ended it."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            with failpoints.armed(f"{failpoint}=kill"):
                execute(run.pk, PROCEDURE)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def take_over(run):
    """Another worker, once the dead one's lease has run out."""
    Run.objects.filter(pk=run.pk).update(lease_until=Now())
    until = time.monotonic() + 30
    while run.is_active and time.monotonic() < until:
        Run.objects.filter(pk=run.pk, status=RunStatus.PARKED).update(next_attempt_at=Now())
        execute(run.pk, PROCEDURE)
        run.refresh_from_db()
    return run


def assert_world(node):
    """What runs is what the rows say, nothing is left over, and reconcile agrees."""
    seen = {item.tenant: item for item in runtimes.runtime_for(node).list()}
    alive = {str(t.public_id): t for t in Tenant.objects.alive().select_related("node", "plan")}
    assert set(seen) == set(alive)
    for public_id, tenant in alive.items():
        assert (tenant.status, tenant.routed) == (Status.RUNNING, True)
        assert seen[public_id].state == AgentState.RUNNING
        assert seen[public_id].handle == tenant.agent_handle
        assert probe(tenant)
    folders = {path.name for path in (node_home() / "tenants").glob("*")}
    assert folders == set(alive)
    assert not list(node_home().rglob("*.tmp"))
    assert verify_chain().fault is None
    assert reconcile.look(node) == []


def node_home():
    from pathlib import Path

    from django.conf import settings

    return Path(settings.HOME)


@pytest.mark.parametrize(("step", "where"), cells(DEPLOY))
def test_a_deploy_whose_worker_is_killed_is_taken_over_and_ends(node, step, where):
    tenant = new_tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    assert in_a_worker(run, f"provision.{step}.{where}") == signal.SIGKILL
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING, "a dead worker's run looks alive until its lease runs out"
    assert not execute(run.pk, PROCEDURE)
    take_over(run)
    assert run.status == RunStatus.SUCCEEDED
    assert run.epoch >= 2
    assert AuditEntry.objects.filter(action="run.interrupt").exists()
    assert StepRecord.objects.filter(run=run).count() == len(steps.CONVERGE)
    assert_world(node)


@pytest.mark.parametrize(("step", "where"), cells(DELETE))
def test_a_deletion_whose_worker_is_killed_is_taken_over_and_ends(node, step, where):
    tenant = new_tenant()
    take_over(services.deploy(actor=OPERATOR, tenant=tenant))
    run = services.delete(actor=OPERATOR, tenant=tenant)
    assert in_a_worker(run, f"deprovision.{step}.{where}") == signal.SIGKILL
    take_over(run)
    assert run.status == RunStatus.SUCCEEDED
    assert_world(node)
    tenant.refresh_from_db()
    assert (tenant.status, tenant.slot) == (Status.DELETED, None)


@pytest.mark.parametrize(
    ("kind", "step", "where"),
    [
        ("restart", "withdraw_route", "after"),
        ("restart", "stop", "after"),
        ("resize", "retire_stale", "after"),
        ("resize", "create", "after"),
        ("rotate-secrets", "rotate_agent_token", "after"),
        ("rotate-secrets", "render_config", "after"),
    ],
)
def test_a_change_whose_worker_is_killed_is_taken_over_and_ends(node, kind, step, where):
    PlanFactory(slug="big", name="Big", memory_limit_mb=2048)
    tenant = new_tenant()
    take_over(services.deploy(actor=OPERATOR, tenant=tenant))
    asked = {
        "restart": lambda: services.restart(actor=OPERATOR, tenant=tenant),
        "resize": lambda: services.resize(actor=OPERATOR, tenant=tenant, plan="big"),
        "rotate-secrets": lambda: services.rotate_secrets(actor=OPERATOR, tenant=tenant).run,
    }
    run = asked[kind]()
    assert in_a_worker(run, f"{kind}.{step}.{where}") == signal.SIGKILL
    take_over(run)
    assert run.status == RunStatus.SUCCEEDED
    assert_world(node)


@pytest.mark.parametrize("undone", ["create", "publish_route"])
def test_a_worker_that_is_killed_while_it_undoes_is_taken_over_and_the_first_error_stays(node, undone):
    tenant = new_tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    failing = "provision.mark_running.before=raise"
    assert in_a_worker(run, f"{failing},provision.{undone}.undo") == signal.SIGKILL
    take_over(run)
    assert run.status == RunStatus.FAILED
    assert run.steps.get(name="mark_running").status == StepStatus.FAILED
    tenant = Tenant.objects.select_related("node").get(pk=tenant.pk)
    assert (tenant.status, tenant.routed, tenant.handle) == (Status.ERROR, False, None)
    assert runtimes.runtime_for(node).list() == []
    assert reconcile.look(node) == []


def test_a_frozen_worker_that_was_overtaken_and_thaws_writes_and_does_nothing(node):
    tenant = new_tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            # Asleep after the agent was created and before that was recorded; meanwhile it is stopped and overtaken.
            with failpoints.armed("provision.create.after=sleep:1"):
                execute(run.pk, PROCEDURE)
        finally:
            os._exit(0)
    until = time.monotonic() + 10
    while not StepRecord.objects.filter(run=run, name="create").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(pid, signal.SIGSTOP)
    take_over(run)
    world = (run.epoch, list(run.steps.values_list("name", "attempts", "result")))
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    run.refresh_from_db()
    assert (run.epoch, list(run.steps.values_list("name", "attempts", "result"))) == world
    assert run.status == RunStatus.SUCCEEDED
    assert_world(node)
