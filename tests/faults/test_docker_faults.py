"""The matrix where it hurts most, on a real engine: the way to it is cut, its replies are lost, its workers killed.

The engine stands behind a wire, so that what it did and what we heard of it can differ.
"""

from __future__ import annotations

import os
import signal

import pytest

from tenants import services
from tenants.models import Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import LABEL_INSTANCE
from tenants.runtimes.docker_engine import Engine, _Client
from tenants.states import Reason, RunStatus, Status
from tests import processes
from tests.faults.world import assert_world
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(600)]
PROVISION = ("POST .*/containers/create", "POST .*/containers/.*/start", "GET .*/containers/json", "GET .*/networks")
HANG_S = 1.5


@pytest.fixture
def world(docker_world):
    docker_world.mark()
    return docker_world


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits for an engine that hangs as long as in production."""

    def limit(client, kwargs):
        kwargs["timeout"] = (HANG_S, min(client.timeout, HANG_S))
        return kwargs

    monkeypatch.setattr(_Client, "_set_request_timeout", limit)


def containers(world):
    """What the real engine holds of this installation, past the wire."""
    from django.conf import settings

    label = f"{LABEL_INSTANCE}={settings.INSTANCE}"
    return Engine(settings.DOCKER_HOST).call("containers", all=True, filters={"label": label}, limit_s=30)


def assert_waits(world, run):
    """It parks, says for what, and calls nobody failed who was not."""
    execute(run.pk, PROCEDURE)
    run.refresh_from_db()
    assert (run.status, run.reason) == (RunStatus.PARKED, Reason.WAITING_FOR_ENGINE), run.error
    assert set(Tenant.objects.filter(status=Status.ERROR)) == set()


def assert_done(world, run, status):
    world.drive(run)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, "")
    assert world.fresh().status == status
    alive = Tenant.objects.alive().exclude(slot=None)
    assert sorted(c["Labels"]["zcplatform.tenant"] for c in containers(world)) == sorted(
        str(t.public_id) for t in alive
    ), "W1: the engine itself was asked"
    for container in containers(world):
        assert all(p["IP"] == "127.0.0.1" for p in container["Ports"] if "PublicPort" in p), "W2"
    assert_world(world)


@pytest.mark.parametrize("fault", ["lose", "cut", "hang"])
@pytest.mark.parametrize("call", PROVISION)
def test_r5_a_deploy_whose_engine_fails_in_one_call_waits_and_ends(world, impatient, call, fault):
    run = services.deploy(actor=OPERATOR, tenant=world.draft())
    with world.engine.failing(fault, call, times=1):
        assert_waits(world, run)
        assert world.engine.hit == 1
    assert_done(world, run, Status.RUNNING)


@pytest.mark.parametrize("fault", ["lose", "cut"])
@pytest.mark.parametrize("call", ["POST .*/stop", "DELETE .*/containers/"])
def test_a_deletion_whose_engine_fails_in_one_call_waits_and_ends(world, call, fault):
    tenant = world.arrange(Status.RUNNING)
    run = services.delete(actor=OPERATOR, tenant=tenant, purge=True)
    with world.engine.failing(fault, call, times=1):
        assert_waits(world, run)
    assert_done(world, run, Status.DELETED)


def test_r4_an_engine_that_is_down_is_waited_for_and_nobody_is_called_down(world):
    tenant = world.arrange(Status.RUNNING)
    run = services.restart(actor=OPERATOR, tenant=tenant)
    with world.engine.failing("down"):
        assert_waits(world, run)
        from tenants import reconcile

        reconcile.sweep()
        assert Tenant.objects.get(pk=world.neighbours[0].pk).status == Status.RUNNING
    assert_done(world, run, Status.RUNNING)


KILLS = [
    ("provision", "ensure_network", "after"),
    ("provision", "create", "writing"),
    ("provision", "start", "after"),
    ("resize", "retire_stale", "after"),
    ("resize", "create", "checked"),
    ("resize", "create", "writing"),
    ("deprovision", "stop", "after"),
    ("deprovision", "remove", "writing"),
    ("deprovision", "archive_folder", "after"),
]


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize(("kind", "step", "place"), KILLS)
def test_a_worker_that_is_killed_or_frozen_on_a_real_engine(world, kind, step, place, fault):
    if kind == "provision":
        run = services.deploy(actor=OPERATOR, tenant=world.draft())
    elif kind == "resize":
        tenant = world.arrange(Status.RUNNING)
        other = "pro" if tenant.plan.slug == "big" else "big"
        run = services.resize(actor=OPERATOR, tenant=tenant, plan=other)
    else:
        run = services.delete(actor=OPERATOR, tenant=world.arrange(Status.RUNNING), purge=True)
    pid = world.worker(run, f"{kind}.{step}.{place}={fault}@1")
    _, status = os.waitpid(pid, os.WUNTRACED)
    run.refresh_from_db()
    if fault == "kill":
        assert os.waitstatus_to_exitcode(status) == processes.KILLED
        return assert_done(world, run, Status.DELETED if kind == "deprovision" else Status.RUNNING)
    assert os.WIFSTOPPED(status)
    world.drive(run)
    os.kill(pid, signal.SIGCONT)
    assert processes.wait(pid) == 0
    world.settle()
    return assert_done(world, run, Status.DELETED if kind == "deprovision" else Status.RUNNING)
