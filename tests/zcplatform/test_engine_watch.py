"""What is kept of what engines tell, without an engine; the rest is in ``tests/faults/test_engine_tells.py``."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from monitoring import heartbeats
from tenants.models import Run
from tenants.provisioning import leases
from tenants.runtimes.base import Happening
from tenants.runtimes.docker_events import read
from tenants.states import RunStatus
from tests.factories import NodeFactory, TenantFactory
from zcplatform import cluster, engine_watch
from zcplatform.engine_watch import EngineWatch, Listener

pytestmark = pytest.mark.django_db


def test_only_what_is_ours_is_read(settings):
    ours = {"zcplatform.instance": settings.INSTANCE, "zcplatform.tenant": "t"}
    assert read({"Type": "container", "Actor": {"Attributes": ours}}) == Happening(tenant="t")
    for about in ({}, {"zcplatform.tenant": "t"}, {**ours, "zcplatform.instance": "another"}):
        assert read({"Type": "container", "Actor": {"Attributes": about}}) is None
    assert read({"Type": "network", "Actor": {"Attributes": {"container": "c"}}}) == Happening(agent="c")
    assert read({"Type": "network", "Actor": {"Attributes": {"name": "n"}}}) is None
    assert read({}) is None


def test_what_is_heard_twice_is_handed_on_once(monkeypatch):
    asked = []
    monkeypatch.setattr(engine_watch, "async_task", lambda *args, **_: asked.append(args))
    watch, node = EngineWatch(), NodeFactory()
    watch.listeners[node.pk] = listener = Listener(node)
    for _ in range(5):
        listener.add(Happening(tenant="a"))
        listener.add(Happening(agent="b"))
    watch.hand_on()
    watch.hand_on()
    assert asked == [("tenants.tasks.look_at", node.pk, ["a"], ["b"])]


def test_of_a_flood_one_look_at_everything_is_left(monkeypatch):
    asked = []
    monkeypatch.setattr(engine_watch, "async_task", lambda *args, **_: asked.append(args))
    watch, node = EngineWatch(), NodeFactory()
    watch.listeners[node.pk] = listener = Listener(node)
    for number in range(engine_watch.MOST + 1):
        listener.add(Happening(tenant=str(number)))
    watch.hand_on()
    assert asked == [("tenants.tasks.reconcile_sweep",)]


@pytest.fixture
def told(monkeypatch):
    """A watch, its only listener, and what it has put into the queue."""
    asked: list[tuple] = []
    monkeypatch.setattr(engine_watch, "async_task", lambda *args, **_: asked.append(args))
    watch, node = EngineWatch(), NodeFactory()
    watch.listeners[node.pk] = Listener(node)
    return watch, watch.listeners[node.pk], asked


def test_an_agent_of_which_something_is_told_without_pause_is_looked_at_now_and_then(told, monkeypatch):
    watch, listener, asked = told
    for _ in range(5):
        listener.add(Happening(tenant="noisy"))
        watch.hand_on()
    assert [tenants for _, _, tenants, _ in asked] == [["noisy"]]
    listener.add(Happening(tenant="another"))
    watch.hand_on()
    assert [tenants for _, _, tenants, _ in asked] == [["noisy"], ["another"]]
    monkeypatch.setattr(engine_watch, "PACE_S", 0)
    watch.hand_on()
    assert [tenants for _, _, tenants, _ in asked] == [["noisy"], ["another"], ["noisy"]], "it is not forgotten"


def test_looks_do_not_pile_up_before_workers_that_do_not_come_to_them(told):
    watch, listener, asked = told
    waiting = OrmQ.objects.create(key="sweeps", payload="", lock=timezone.now() - timedelta(seconds=1))
    listener.add(Happening(tenant="a"))
    watch.hand_on()
    assert asked == []
    waiting.delete()
    watch.hand_on()
    assert [tenants for _, _, tenants, _ in asked] == [["a"]]


def test_rows_that_a_dead_cluster_had_taken_are_free_for_the_next(monkeypatch):
    monkeypatch.setattr("django.db.connections.close_all", lambda: None)
    for name in heartbeats.CLUSTERS:
        async_task("tests.zcplatform.work.write", cluster=name)
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=600))
    cluster.take_over("runs")
    assert [heartbeats.is_waiting(name) for name in heartbeats.CLUSTERS] == [True, False]


def run_of(owner: str) -> Run:
    lease = Now() + timedelta(seconds=600)
    return Run.objects.create(
        tenant=TenantFactory(), kind="start", status=RunStatus.RUNNING, lease_owner=owner, lease_until=lease, epoch=3
    )


def test_a_run_whose_worker_is_dead_is_due_and_the_others_are_not():
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    dead, living = run_of(leases.owner("x").replace(f":{os.getpid()}:", f":{ended.pid}:")), run_of(leases.owner("y"))
    elsewhere, strange = run_of(f"another:{ended.pid}:z"), run_of("no owner of ours")
    assert leases.free_of_dead() == 1
    assert leases.free_of_dead() == 0
    assert set(Run.objects.due_for_queue()) == {dead}
    assert {living, elsewhere, strange}.isdisjoint(Run.objects.due_for_queue())
