"""Thirty tenants asked for at the same moment on a real engine, over several networks; then thirty deletions."""

from __future__ import annotations

import pytest
from django.conf import settings

from tenants import services
from tenants.models import Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import LABEL_INSTANCE
from tenants.runtimes.docker_engine import Engine
from tenants.states import ACTIVE_RUN, RunStatus, Status
from tests import processes
from tests.faults.world import assert_world, installed
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(900)]
MANY, WORKERS, PER_NETWORK = 30, 4, 8


@pytest.fixture(scope="module")
def world(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "TENANTS_PER_NETWORK", PER_NETWORK)
        with installed("docker") as made:
            yield made


def work_until_done():
    """What a worker of the queue does, until nothing is left."""
    while runs := list(Run.objects.filter(status__in=ACTIVE_RUN).values_list("pk", flat=True)):
        for run in runs:
            Run.objects.filter(pk=run, status=RunStatus.PARKED).update(next_attempt_at="2020-01-01T00:00:00Z")
            execute(run, PROCEDURE)


def all_work():
    workers = [processes.start(work_until_done) for _ in range(WORKERS)]
    assert [processes.wait(pid) for pid in workers] == [0] * WORKERS


def test_thirty_at_once_all_arrive_each_exactly_once_and_all_leave(world):
    world.mark()
    tenants = [world.tenant(f"Many {number}") for number in range(MANY)]
    for tenant in tenants:
        services.deploy(actor=OPERATOR, tenant=tenant)
    all_work()
    rows = Tenant.objects.filter(pk__in=[t.pk for t in tenants])
    assert set(rows.values_list("status", "reason")) == {(Status.RUNNING, "")}
    assert set(Run.objects.filter(tenant__in=rows).values_list("status", flat=True)) == {RunStatus.SUCCEEDED}
    engine, mine = Engine(settings.DOCKER_HOST), {"label": f"{LABEL_INSTANCE}={settings.INSTANCE}"}
    assert len(engine.call("containers", all=True, filters=mine, limit_s=30)) == MANY + len(world.neighbours)
    networks = engine.call("networks", filters=mine)
    slots = rows.values_list("slot", flat=True)
    assert len(networks) == max(slots) // PER_NETWORK + 1 == 4
    assert len({network["IPAM"]["Config"][0]["Subnet"] for network in networks}) == len(networks)
    assert_world(world)

    for tenant in rows:
        services.delete(actor=OPERATOR, tenant=tenant, purge=True)
    all_work()
    assert set(rows.values_list("status", "slot")) == {(Status.DELETED, None)}
    assert len(engine.call("containers", all=True, filters=mine, limit_s=30)) == len(world.neighbours)
    assert_world(world)
