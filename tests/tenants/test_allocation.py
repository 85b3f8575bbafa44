"""Slots: given once each, whatever the number of those who ask at the same time."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta

import pytest
from django.db import connections

from tenants.models import QuarantinedPort, Tenant
from tenants.provisioning import allocation
from tests.factories import NodeFactory, TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.errors import RunFailed

pytestmark = pytest.mark.django_db(transaction=True)
PROCESSES, EACH = 16, 64


def _allocate(keys):
    connections.close_all()
    for key in keys:
        allocation.allocate(Tenant.objects.get(pk=key))
    connections.close_all()


def test_r8_sixteen_processes_allocating_sixty_four_each_never_share(settings):
    node = NodeFactory(name="wide", port_first=30_001, port_last=31_500, uid_first=200_000, uid_last=201_499)
    plan = TenantFactory(node=node).plan
    Tenant.objects.all().delete()
    rows = [Tenant(slug=f"t{n}", name="T", plan=plan, node=node, agent_kind="demo") for n in range(PROCESSES * EACH)]
    keys = [row.pk for row in Tenant.objects.bulk_create(rows)]
    connections.close_all()
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_allocate, args=(keys[n::PROCESSES],)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    for column in ("slot", "port", "uid"):
        given = list(Tenant.objects.values_list(column, flat=True))
        assert None not in given
        assert len(set(given)) == PROCESSES * EACH, f"a {column} was given twice"
    assert max(Tenant.objects.values_list("slot", flat=True)) == PROCESSES * EACH - 1, "no slot was wasted"


def test_a_tenant_keeps_its_slot():
    tenant = TenantFactory()
    first = allocation.allocate(tenant)
    assert allocation.allocate(tenant).slot == first.slot


def test_a_freed_slot_is_given_again_and_a_quarantined_port_is_not():
    node = NodeFactory(name="small", port_first=30_001, port_last=30_003)
    one = allocation.allocate(TenantFactory(node=node))
    allocation.quarantine(one)
    two = allocation.allocate(TenantFactory(node=node))
    assert (one.port, two.port) == (None, 30_002)
    QuarantinedPort.objects.update(until=clock.now() - timedelta(seconds=1))
    assert allocation.allocate(TenantFactory(node=node)).port == 30_001


def test_exhaustion_is_a_named_error():
    node = NodeFactory(name="tiny", port_first=30_001, port_last=30_001)
    allocation.allocate(TenantFactory(node=node))
    with pytest.raises(RunFailed) as refused:
        allocation.allocate(TenantFactory(node=node))
    assert refused.value.type == "no_capacity"


def test_a_moved_port_range_does_not_hand_out_what_older_tenants_hold():
    node = NodeFactory(name="moved", port_first=30_001, port_last=30_010)
    older = allocation.allocate(TenantFactory(node=node))
    type(node).objects.filter(pk=node.pk).update(port_first=30_000)
    newer = allocation.allocate(TenantFactory(node=node))
    assert (older.port, newer.slot, newer.port) == (30_001, 2, 30_002)
