"""What the queue calls: tasks that piled up are one turn, and a turn that overruns is lag."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from monitoring import tasks
from monitoring.collectors import disks, health, resources, retention, usage
from monitoring.models import HealthState, Sweep
from tenants.states import RunKind
from zcplatform.lib import clock

PERIODIC = {
    "health": (tasks.sweep_health, health.EVERY_S),
    "resources": (tasks.sweep_resources, resources.EVERY_S),
    "disks": (tasks.sweep_disks, disks.EVERY_S),
    "usage": (tasks.sweep_usage, usage.EVERY_S),
    "rollup": (tasks.roll_up, retention.ROLL_UP_EVERY_S),
}


def began(name, seconds_ago):
    Sweep.objects.filter(name=name).update(started_at=Now() - timedelta(seconds=seconds_ago))


@pytest.mark.django_db
@pytest.mark.parametrize("name", PERIODIC)
def test_tasks_that_piled_up_are_one_turn(name):
    task, every_s = PERIODIC[name]
    for _ in range(20):
        task()
    row = Sweep.objects.get(name=name)
    assert (row.epoch, row.overruns) == (1, 0)
    began(name, every_s * 0.7)
    task()
    assert Sweep.objects.get(name=name).epoch == 2, "one that is early because the one before was late is no flood"
    began(name, -3_600)
    task()
    assert Sweep.objects.get(name=name).epoch == 3, "R9: a clock that was put back stops no sweep"


def test_a_flood_of_turns_gives_nobody_three_strikes_within_a_second(world):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    agent.server.shutdown()
    agent.server.server_close()
    agent.server, agent.started_at = None, clock.now() - timedelta(hours=1)
    for _ in range(10):
        tasks.sweep_health()
    assert HealthState.objects.get(tenant=tenant).strikes == 1
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists()


@pytest.mark.django_db
def test_a_turn_that_does_not_end_is_lag_while_it_lasts_and_not_only_afterwards():
    tasks.sweep_health()
    Sweep.objects.update(lease_until=Now() + timedelta(minutes=1))
    began("health", 90)
    tasks.sweep_health()
    row = Sweep.objects.get(name="health")
    assert (row.epoch, row.overruns) == (1, 1)
    assert 59_000 <= row.lag_ms < 90_000
    Sweep.objects.update(lease_until=None)
    tasks.sweep_health()
    row = Sweep.objects.get(name="health")
    assert (row.epoch, row.overruns) == (2, 1)
    assert row.lag_ms >= 59_000
