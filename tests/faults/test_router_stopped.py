"""``serve`` is stopped, and its Caddy too: what takes routes away does not wait for it, what publishes them does."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.test import override_settings

from tenants import services
from tenants.models import Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.states import RunStatus, Status
from tests.faults.world import assert_world
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def tenant(world):
    world.mark()
    return world.arrange(Status.RUNNING)


@pytest.fixture
def stopped(world, tenant):
    """Our own Caddy does not run; it is started again at the end, and the world is whole."""
    world.caddy.kill()
    with override_settings(CADDY_ADMIN=""):
        yield
    world.restart_caddy()
    world.settle()
    assert_world(world)


def once(run):
    """One worker, one attempt."""
    execute(run.pk, PROCEDURE)
    run.refresh_from_db()
    return run.status


@pytest.mark.parametrize("verb", ["stop", "suspend", "delete"])
def test_a_route_of_ours_that_no_router_holds_is_withdrawn_at_once(world, tenant, stopped, verb):
    assert once(getattr(services, verb)(actor=OPERATOR, tenant=tenant)) == RunStatus.SUCCEEDED
    assert not Tenant.objects.get(pk=tenant.pk).routed


def test_the_command_ends_too(world, tenant, stopped):
    call_command("deprovision", tenant.slug, "--purge", "--yes", stdout=StringIO())
    assert Tenant.objects.get(pk=tenant.pk).status == Status.DELETED


def test_what_publishes_a_route_waits(world, tenant, stopped):
    assert once(services.restart(actor=OPERATOR, tenant=tenant)) == RunStatus.PARKED


def test_a_router_of_somebody_else_is_waited_for(world, tenant):
    run = services.stop(actor=OPERATOR, tenant=tenant)
    world.wire.down()
    assert once(run) == RunStatus.PARKED
    world.wire.heal()
    world.drive(run)
    assert_world(world)
