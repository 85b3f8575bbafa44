"""A thousand tenants: a look costs what it looks at, changes nothing, and asks nobody twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import reconcile
from tenants.models import Event, Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState
from tenants.runtimes.docker_networks import network_name
from tenants.states import Status
from tests.factories import NodeFactory, PlanFactory, UserFactory
from tests.fleet import running_fleet
from zcplatform.lib import clock

BRIDGE_PORTS = 1_023  # of one Linux bridge, then "exchange full"


@pytest.fixture
def node(world):
    return NodeFactory(
        name="fake",
        runtime="fake",
        endpoint="world",
        port_first=30_001,
        port_last=31_500,
        uid_first=200_000,
        uid_last=201_499,
    )


def grow(world, node, count):
    """To ``count`` running tenants."""
    running_fleet(count - Tenant.objects.count(), node, PlanFactory(), world.engine, first=Tenant.objects.count())
    reconcile.sync_routes()


def queries(act) -> int:
    with CaptureQueriesContext(connection) as seen:
        act()
    return len(seen)


def test_a_look_at_a_thousand_asks_the_engine_once_and_changes_nothing(world, node, monkeypatch):
    grow(world, node, 1_000)
    counts = [model.objects.count() for model in (Run, Event)]
    world.engine.calls.clear()
    monkeypatch.setattr(reconcile, "TURNS", 10**9)  # whose turn it is to be compared with its spec is another matter
    assert queries(lambda: reconcile.look(node)) <= 3
    assert [verb for verb, _ in world.engine.calls] == ["list", "strays"]
    assert (reconcile.sweep(), reconcile.sweep()) == (0, 0)
    assert [model.objects.count() for model in (Run, Event)] == counts


@pytest.mark.slow
def test_every_agent_of_a_thousand_is_compared_with_its_spec_in_one_of_ten_sweeps(world, node):
    grow(world, node, 1_000)
    world.engine.calls.clear()
    for turn in range(reconcile.TURNS):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=reconcile.SWEEP_S * turn)
        with clock.use(lambda at=at: at):
            assert reconcile.look(node) == []
    compared = [whom for verb, whom in world.engine.calls if verb == "deviations"]
    assert len(compared) == len(set(compared)) == 1_000


@pytest.mark.slow
def test_after_a_reboot_a_thousand_are_asked_back_once_each_and_nobody_else(world, node, monkeypatch):
    grow(world, node, 1_000)
    stopped = Tenant.objects.filter(pk__in=Tenant.objects.order_by("pk").values_list("pk")[:100])
    stopped.update(desired="stopped", status=Status.STOPPED, routed=False)
    for agent in world.agents():
        agent.state = AgentState.EXITED
    reconcile.sweep()
    assert Run.objects.filter(status="queued").count() == 900
    reconcile.sweep()
    assert Run.objects.filter(status="queued").count() == 900
    monkeypatch.setattr("tenants.provisioning.steps.probe", lambda _tenant: True)
    world.use("FakeRuntime")  # an agent that serves would need a thread and a port of its own, a thousand times
    run = Run.objects.filter(status="queued").first()
    assert execute(run.pk, PROCEDURE)
    assert world.fresh(run.tenant).status == Status.RUNNING


def test_the_list_and_a_tenants_page_ask_as_much_of_a_thousand_as_of_ten(world, node, client):
    client.force_login(UserFactory(is_superuser=True))
    grow(world, node, 10)
    page = f"/admin/tenants/tenant/{Tenant.objects.first().pk}/change/"
    pages = ["/admin/tenants/tenant/", "/admin/tenants/tenant/?q=fleet-7", page]
    for address in pages:
        client.get(address)  # whatever is asked once in a while
    few = [queries(lambda address=address: client.get(address)) for address in pages]
    grow(world, node, 1_000)
    assert [queries(lambda address=address: client.get(address)) for address in pages] == few


def test_tenants_are_spread_over_networks_before_a_bridge_is_full(settings):
    names = [network_name(slot) for slot in range(2_000)]
    largest = max(names.count(name) for name in set(names))
    assert largest == settings.TENANTS_PER_NETWORK < BRIDGE_PORTS
    assert len(set(names)) == 2_000 // settings.TENANTS_PER_NETWORK
    subnet_hosts = 2 ** (32 - settings.SUBNET_PREFIX) - 3  # network, broadcast, gateway
    assert largest <= subnet_hosts
