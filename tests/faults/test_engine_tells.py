"""The engine tells what is done to an agent, and it is mended without waiting for the sweep that has its turn."""

from __future__ import annotations

import time

import pytest
from django.conf import settings

from tenants import reconcile
from tenants.models import Run
from tenants.runtimes import docker_events
from tenants.runtimes.docker_engine import Engine
from tenants.states import ACTIVE_RUN, Status
from tests.faults.test_drift import disconnect, loosen
from tests.faults.world import assert_world
from tests.zcplatform.serving import wait_for
from zcplatform import engine_watch
from zcplatform.engine_watch import EngineWatch
from zcplatform.lib.errors import DependencyDown

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def world(docker_world):
    docker_world.mark()
    return docker_world


@pytest.fixture
def engine():
    real = Engine(settings.DOCKER_HOST)
    return lambda verb, *args, **more: real.call(verb, *args, limit_s=60, **more)


@pytest.fixture
def asked(monkeypatch):
    """What is put into the queue."""
    rows: list[tuple] = []
    monkeypatch.setattr(engine_watch, "async_task", lambda name, *args, **_: rows.append((name, *args)))
    return rows


@pytest.fixture
def watch(world, asked):
    """Listening; the listener's threads are daemons and end with the process."""
    made = EngineWatch()
    made.hand_on()
    time.sleep(1.5)  # the engine's clock has whole seconds
    made.hand_on()
    asked.clear()
    return made


DONE = {
    "paused": lambda e, t: e("pause", t.handle["id"]),
    "killed": lambda e, t: e("kill", t.handle["id"]),
    "removed": lambda e, t: e("remove_container", t.handle["id"], force=True),
    "cut off its network": disconnect,
    "given more memory": loosen,
}


@pytest.mark.parametrize("what", DONE)
def test_what_is_done_behind_our_back_is_told_and_mended_by_one_look(world, engine, watch, asked, capsys, what):
    tenant = world.arrange(Status.RUNNING)
    watch.hand_on()
    time.sleep(1)
    watch.hand_on()
    asked.clear()
    began = time.monotonic()
    DONE[what](engine, tenant)

    def mended() -> bool:
        watch.hand_on()
        while asked:
            name, *args = asked.pop()
            assert name == "tenants.tasks.look_at", name
            reconcile.look_at(*args)
        return Run.objects.filter(tenant=tenant, status__in=ACTIVE_RUN).exists()

    wait_for(mended, "a repair is asked for")
    run = Run.objects.get(tenant=tenant, status__in=ACTIVE_RUN)
    world.drive(run)
    with capsys.disabled():
        print(f"\n{what}: mended after {time.monotonic() - began:.1f} s", flush=True)
    assert world.fresh().status == Status.RUNNING
    assert_world(world)


def test_after_a_break_everything_is_looked_at(world, watch, asked):
    world.engine.down()
    listener = watch.listeners[world.node.pk]
    wait_for(lambda: listener.failing, "the break is noticed")
    assert listener.is_alive()
    watch.hand_on()
    assert asked == [], "not while it lasts: the sweep would fail as well"
    world.engine.heal()
    wait_for(lambda: watch.hand_on() or asked, "all is looked at")
    assert ("tenants.tasks.reconcile_sweep",) in asked


def test_an_engine_that_is_down_is_said_so(world):
    world.engine.down()
    try:
        with pytest.raises(DependencyDown):
            next(docker_events.follow(Engine(f"unix://{world.engine.front}")))
    finally:
        world.engine.heal()
