"""Slots: given once each, whatever the number of those who ask at the same time."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connections

from tenants.models import QuarantinedPort, Tenant
from tenants.provisioning import allocation
from tests import slot
from tests.factories import NodeFactory, TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.errors import RunFailed

pytestmark = pytest.mark.django_db(transaction=True)
PROCESSES, EACH = 16, 64
ELSEWHERE = "192.0.2.1"  # whatever other programs do with the ports of this host


def _allocate(keys):
    connections.close_all()
    for key in keys:
        allocation.allocate(Tenant.objects.get(pk=key))
    connections.close_all()


def test_r8_sixteen_processes_allocating_sixty_four_each_never_share(settings):
    node = NodeFactory(
        name="wide", address=ELSEWHERE, port_first=30_001, port_last=31_500, uid_first=200_000, uid_last=201_499
    )
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
    node = NodeFactory(name="small", address=ELSEWHERE, port_first=30_001, port_last=30_003)
    one = allocation.allocate(TenantFactory(node=node))
    allocation.quarantine(one)
    two = allocation.allocate(TenantFactory(node=node))
    assert (one.port, two.port) == (None, 30_002)
    QuarantinedPort.objects.update(until=clock.now() - timedelta(seconds=1))
    assert allocation.allocate(TenantFactory(node=node)).port == 30_001


def test_exhaustion_is_a_named_error():
    node = NodeFactory(name="tiny", address=ELSEWHERE, port_first=30_001, port_last=30_001)
    allocation.allocate(TenantFactory(node=node))
    with pytest.raises(RunFailed) as refused:
        allocation.allocate(TenantFactory(node=node))
    assert refused.value.type == "no_capacity"


def test_a_moved_port_range_does_not_hand_out_what_older_tenants_hold():
    node = NodeFactory(name="moved", address=ELSEWHERE, port_first=30_001, port_last=30_010)
    older = allocation.allocate(TenantFactory(node=node))
    type(node).objects.filter(pk=node.pk).update(port_first=30_000)
    newer = allocation.allocate(TenantFactory(node=node))
    assert (older.port, newer.slot, newer.port) == (30_001, 2, 30_002)


SQUAT = """
import os, socket, sys
uid, first, last, listen = map(int, sys.argv[1:])
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
held = [socket.socket() for _ in range(first, last + 1)]
for port, one in enumerate(held, first):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, listen)
    one.bind(("127.0.0.1", port))
    if listen:
        one.listen()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def squatter(uid, first, last, *, listen=True):
    """A process of ``uid`` that holds these ports."""
    argv = [sys.executable, "-I", "-c", SQUAT, *map(str, (uid, first, last, int(listen)))]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        yield
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


@pytest.fixture
def here():
    last = slot.ANY[1]  # no test lets anybody connect there: such a port would be busy for a minute afterwards
    return NodeFactory(name="here", port_first=last - 99, port_last=last)


@pytest.mark.root
@pytest.mark.parametrize("listen", [True, False])
def test_an_agent_that_squats_on_ports_costs_them_only_while_it_does(here, listen):
    with squatter(here.uid_first, here.port_first, here.port_last - 5, listen=listen):
        for n in range(4):
            assert allocation.allocate(TenantFactory(node=here)).port == here.port_last - 4 + n
        assert not QuarantinedPort.objects.exists()
    assert allocation.allocate(TenantFactory(node=here)).port == here.port_first


@pytest.mark.root
def test_one_that_is_faster_than_a_start_puts_no_port_into_quarantine(here):
    tenant = allocation.allocate(TenantFactory(node=here))
    with squatter(here.uid_first + 7, tenant.port, tenant.port):
        allocation.quarantine(tenant)
        assert not QuarantinedPort.objects.exists()
        assert allocation.allocate(tenant).port == here.port_first + 1


@pytest.mark.root
def test_a_range_that_an_agent_holds_all_of_is_a_named_error(here):
    with squatter(here.uid_first, here.port_first, here.port_last), pytest.raises(RunFailed, match="held by something"):
        allocation.allocate(TenantFactory(node=here))


def test_what_is_not_ours_takes_a_small_share_into_quarantine_and_no_more(here):
    strangers = [socket.socket() for _ in range(30)]
    for port, one in enumerate(strangers, here.port_first):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        one.listen()
    try:
        assert allocation.allocate(TenantFactory(node=here)).port == here.port_first + 30
        assert QuarantinedPort.objects.count() == here.capacity // allocation.SHARE
    finally:
        for one in strangers:
            one.close()


def test_what_was_set_aside_first_is_tried_again_first():
    node = NodeFactory(name="full", address=ELSEWHERE, port_first=30_001, port_last=30_040)
    for _ in range(4):
        tenant = allocation.allocate(TenantFactory(node=node))
        allocation.quarantine(tenant)
    assert QuarantinedPort.objects.count() == 2
