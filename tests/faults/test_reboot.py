"""R17: the host goes down in the middle of everything. What should run comes back, and only that."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from django.test import override_settings

from tenants import reconcile, services
from tenants.models import Run, Tenant
from tenants.probe import probe
from tenants.runtimes.base import AgentState
from tenants.states import RunStatus, Status
from tests import processes, slot
from tests.faults.own_engine import own_engine
from tests.faults.world import assert_world, installed
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(django_test_environment, django_db_blocker):
    bridge = Path("/sys/class/net/docker0")
    there = bridge.exists()
    # Addresses of its own: it does not see which networks the engine that everybody uses has on the same host.
    apart = override_settings(SUBNET_POOL=slot.OTHER_NETWORKS)
    with django_db_blocker.unblock(), apart, own_engine() as engine, installed("docker", engine=engine.socket) as world:
        yield engine, world
    assert bridge.exists() == there, "the bridge of the engine that everybody uses was touched"


def all_answer():
    rows = Tenant.objects.filter(status=Status.RUNNING).select_related("node")
    return all(probe(tenant) for tenant in rows)


def states(world):
    """Of every container, so that a second one of a tenant shows too."""
    return sorted((seen.tenant, seen.state) for seen in world.runtime.list())


def test_r17_a_host_that_goes_down_in_the_middle_of_a_deploy_comes_back_as_the_rows_say(place):
    """One runs, one was stopped, one is suspended, one is being deployed, one is being deleted."""
    engine, world = place
    running, stopped = world.neighbours
    suspended, deleted = world.tenant("Suspended"), world.tenant("Deleted")
    for tenant in (suspended, deleted):
        world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    world.drive(services.suspend(actor=OPERATOR, tenant=suspended))
    deploy = services.deploy(actor=OPERATOR, tenant=world.draft())
    deletion = services.delete(actor=OPERATOR, tenant=deleted, purge=True)
    for run, point in ((deploy, "provision.start.after"), (deletion, "deprovision.stop.after")):
        assert processes.wait(world.worker(run, f"{point}=kill")) == processes.KILLED
    world.caddy.kill()

    engine.crash()
    assert reconcile.sweep() == 0, "unknown is not down: nobody is marked"
    assert Tenant.objects.get(pk=running.pk).status == Status.RUNNING
    engine.start()
    world.restart_caddy()

    for run in (deploy, deletion):
        run.refresh_from_db()
        world.drive(run)
        assert run.status == RunStatus.SUCCEEDED, run.error
    world.settle()
    up, down = (running, world.fresh()), (stopped, suspended)
    assert states(world) == sorted(
        [(str(tenant.public_id), AgentState.RUNNING) for tenant in up]
        + [(str(tenant.public_id), AgentState.EXITED) for tenant in down]
    ), "all that should run, and only that"
    rows = Tenant.objects.filter(pk__in=[stopped.pk, suspended.pk]).order_by("pk")
    assert [tenant.status for tenant in rows] == [Status.STOPPED, Status.SUSPENDED]
    world.untouched = world.photo()  # started anew by the engine, as it must be
    assert_world(world)


def test_r17_the_engine_itself_brings_back_what_ran_before_the_platform_is_there(place):
    """``unless-stopped``: an agent does not wait for the platform."""
    engine, world = place
    before = states(world)
    runs = Run.objects.count()
    engine.crash()
    engine.start()
    until = time.monotonic() + 60
    while not (states(world) == before and all_answer()) and time.monotonic() < until:
        time.sleep(0.2)
    assert states(world) == before
    world.settle()
    assert Run.objects.count() == runs, "nothing had to be repaired"
    world.untouched = world.photo()
    assert_world(world)
