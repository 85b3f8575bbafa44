"""The health sweep over an engine in memory whose agents are real listeners. Groups M9, R4, R5, R9, R16."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from audit.models import AuditEntry
from monitoring import probing, sweeps
from monitoring.collectors import health, resources
from monitoring.models import HealthState, Sweep
from tenants import reconcile, services
from tenants.models import Event, Tenant
from tenants.runtimes.base import AgentState, Reading
from tenants.states import Desired, Health, Reason, RunKind, Status
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

READING = Reading("life", 5_000_000, 7_000_000, 256 * 1_048_576, 100, 200, 3)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.3)


def turns(count):
    for _ in range(count):
        health.sweep()


def drive_all(world):
    for tenant in Tenant.objects.all():
        for run in tenant.runs.all():
            if run.is_active:
                world.drive(run)


def fall_silent(agent):
    """It runs, by the engine's word, and answers nobody."""
    if agent.server:
        agent.server.shutdown()
        agent.server.server_close()
        agent.server = None


def actions(tenant):
    return list(AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).values_list("action", flat=True))


def old(agent):
    agent.started_at = clock.now() - timedelta(hours=1)


def test_a_healthy_fleet_is_looked_at_and_nothing_is_written(world, django_assert_max_num_queries):
    tenant = world.tenant(deploy=True)
    before = world.fresh(tenant).health_at
    with django_assert_max_num_queries(13):
        assert health.sweep() == sweeps.Outcome(1, 0)
    assert world.fresh(tenant).health_at == before
    assert not HealthState.objects.exists()


def test_three_strikes_restart_it_and_the_restart_mends_it(world):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    fall_silent(agent)
    old(agent)
    turns(2)
    assert world.fresh(tenant).health == Health.FAILING
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists()
    turns(1)
    run = tenant.runs.get(kind=RunKind.RESTART)
    assert run.actor == "system" and run.params["cause"].startswith("unhealthy: ")
    turns(5)
    assert tenant.runs.filter(kind=RunKind.RESTART).count() == 1, "a tenant with a run is left to it"
    world.drive(run)
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.health, tenant.routed) == (Status.RUNNING, Health.OK, True)
    assert "tenant.restart" in actions(tenant)
    told = Event.objects.filter(tenant=tenant, type="tenant.health").values_list("data", flat=True)
    assert list(told.order_by("pk")) == [
        {"from": "unknown", "to": "ok"},  # the first deploy
        {"from": "ok", "to": "failing", "why": "refused"},
        {"from": "failing", "to": "ok"},  # the restart
    ]


def test_r16_one_that_is_never_mended_ends_in_error_with_the_reason_and_no_route(world):
    tenant = world.tenant(deploy=True)
    for _ in range(40):
        agent = world.agents()[0]
        old(agent)
        fall_silent(agent)
        agent.output.append("Traceback: boom")
        turns(1)
        drive_all(world)
        if world.fresh(tenant).status == Status.ERROR:
            break
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.reason, tenant.routed) == (Status.ERROR, Reason.UNHEALTHY, False)
    assert "nothing listens on its port" in tenant.detail and "boom" in tenant.detail
    assert world.router.routes == {}
    assert tenant.runs.filter(kind=RunKind.RESTART).count() == 3
    assert actions(tenant).count("tenant.restart") == 3
    assert actions(tenant).count("tenant.failed") == 1
    assert reconcile.look(tenant.node) == [], "reconcile leaves it to a person"


def test_r16_the_engines_word_about_memory_is_the_reason(world):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    fall_silent(agent)
    agent.oom_killed, agent.restarts, agent.exit_code = True, 4, 137
    old(agent)
    turns(3)
    assert tenant.runs.get(kind=RunKind.RESTART).params["cause"].startswith("oom_killed: The agent ran out of memory")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"restarts": 5, "exit_code": 1}, "crash_loop: The agent ended 5 times with exit code 1."),
        ({"restarts": 1, "exit_code": 78}, "bad_config: The agent does not accept its configuration"),
        ({"restarts": 0, "oom_killed": True}, "unhealthy: "),
    ],
)
def test_r16_what_else_is_found_by_looking(world, seen, reason):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    fall_silent(agent)
    old(agent)
    for name, value in seen.items():
        setattr(agent, name, value)
    turns(3)
    assert tenant.runs.get(kind=RunKind.RESTART).params["cause"].startswith(reason)


def test_the_last_lines_are_told_without_the_secrets(world):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    fall_silent(agent)
    old(agent)
    from tenants.secrets import reveal_all
    from zcplatform.lib.actors import SYSTEM

    token = reveal_all(tenant, actor=SYSTEM, why="test").of_tenant["agent_token"].reveal()
    agent.output.append(f"bad token {token}")
    turns(3)
    cause = tenant.runs.get(kind=RunKind.RESTART).params["cause"]
    assert "bad token ***" in cause and token not in cause
    assert token not in str(list(AuditEntry.objects.values_list("detail_json", flat=True)))


def test_a_young_agent_is_given_its_grace(world):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    fall_silent(agent)
    agent.started_at = clock.now()
    turns(3)
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists()
    turns(1)
    assert tenant.runs.filter(kind=RunKind.RESTART).exists(), "but not for ever, whatever the engine's clock says"


@pytest.mark.parametrize("engine", ["DownRuntime"])
def test_r4_r5_an_engine_that_does_not_answer_makes_it_unknown_and_nobody_error(world, engine):
    tenants = [world.tenant(f"Tenant {n}", deploy=True) for n in range(3)]
    for agent in world.agents():
        old(agent)
        fall_silent(agent)
    turns(2)
    world.use(engine)
    turns(30)
    for tenant in map(world.fresh, tenants):
        assert (tenant.status, tenant.health) == (Status.RUNNING, Health.UNKNOWN)
        assert not tenant.runs.filter(kind=RunKind.RESTART).exists()
    assert reconcile.sweep() == 0
    world.use("ServingRuntime")
    for agent in world.agents():
        agent.serve(200)
    turns(1)
    assert {world.fresh(tenant).health for tenant in tenants} == {Health.OK}
    whys = Event.objects.filter(type="tenant.health", data__to="unknown").values_list("data__why", flat=True)
    assert set(whys) == {"engine"}


def test_r4_strikes_before_and_after_the_engines_trouble_do_not_add_up(world):
    tenant = world.tenant(deploy=True)
    fall_silent(world.agents()[0])
    old(world.agents()[0])
    now = clock.now()
    for engine, count, strikes in (("ServingRuntime", 2, 2), ("DownRuntime", 5, 0), ("ServingRuntime", 2, 2)):
        world.use(engine)
        for _ in range(count):
            now += timedelta(seconds=30)
            with clock.use(lambda at=now: at):
                health.sweep()
        assert HealthState.objects.get(tenant=tenant).strikes == strikes
        assert not tenant.runs.filter(kind=RunKind.RESTART).exists()
        assert world.fresh(tenant).status == Status.RUNNING
    with clock.use(lambda: now + timedelta(seconds=30)):
        health.sweep()
    assert tenant.runs.filter(kind=RunKind.RESTART).exists(), "the third in a row is one"


def test_r4_when_everybody_fails_at_once_nobody_is_blamed(world, monkeypatch):
    monkeypatch.setattr(health, "TROUBLE_FROM", 3)
    tenants = [world.tenant(f"Tenant {n}", deploy=True) for n in range(3)]
    for agent in world.agents():
        old(agent)
        fall_silent(agent)
    turns(6)
    assert {world.fresh(tenant).health for tenant in tenants} == {Health.UNKNOWN}
    world.agents()[0].serve(200)
    turns(3)
    restarted = [t for t in tenants if t.runs.filter(kind=RunKind.RESTART).exists()]
    assert len(restarted) == 2, "one that answers shows that it is not the node"


def test_not_everybody_is_restarted_in_the_same_turn(world, monkeypatch):
    monkeypatch.setattr(health, "ACTS_PER_TURN", 1)
    tenants = [world.tenant(f"Tenant {n}", deploy=True) for n in range(3)]
    for agent in world.agents():
        old(agent)
        fall_silent(agent)
    for expected in (0, 0, 1, 2, 3):
        turns(1)
        assert sum(t.runs.filter(kind=RunKind.RESTART).exists() for t in tenants) == expected


def test_one_that_ends_and_starts_and_answers_in_between_is_a_crash_loop(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    for minute in range(6):
        # Ended and started again by its engine: another life each minute, and well whenever it is asked.
        agent.reading = replace(READING, life=f"life {minute}")
        agent.restarts, agent.exit_code, agent.started_at = 3 + minute, 1, clock.now()
        monkeypatch.setattr(resources.time, "monotonic_ns", lambda now=minute: now * 60_000_000_000)
        resources.sweep()
        health.sweep()
        if minute < 4:
            assert world.fresh(tenant).health == Health.OK
    assert world.fresh(tenant).health == Health.FAILING
    turns(2)
    run = tenant.runs.get(kind=RunKind.RESTART)
    assert run.params["cause"].startswith("crash_loop: The agent ended")
    world.drive(run)
    turns(1)
    assert world.fresh(tenant).health == Health.OK, "it begins anew"


def test_one_that_ends_now_and_then_is_not(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    for minute in range(40):
        agent.reading = replace(READING, life=f"life {minute // 4}")
        monkeypatch.setattr(resources.time, "monotonic_ns", lambda now=minute: now * 60_000_000_000)
        resources.sweep()
    turns(4)
    assert world.fresh(tenant).health == Health.OK
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists()


def test_one_in_error_that_answers_again_is_taken_back_by_a_run(world):
    tenant = world.tenant(deploy=True)
    from tenants import health as service

    assert service.give_up(tenant=tenant, reason=Reason.UNHEALTHY, detail="it did not answer")
    turns(2)
    assert world.fresh(tenant).status == Status.ERROR
    turns(1)
    drive_all(world)
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.reason, tenant.health, tenant.routed) == (Status.RUNNING, "", Health.OK, True)
    assert {"tenant.failed", "tenant.drift", "tenant.repair"} <= set(actions(tenant))


def test_an_error_that_is_not_the_sweeps_is_left_to_a_person(world):
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.ERROR, reason=Reason.SPEC_DRIFT)
    turns(4)
    assert health.watch() == []
    assert world.fresh(tenant).status == Status.ERROR


def test_what_is_meant_to_be_down_is_not_asked(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert health.watch() == []
    turns(4)
    tenant = world.fresh(tenant)
    assert (tenant.desired, tenant.status, tenant.health) == (Desired.STOPPED, Status.STOPPED, Health.UNKNOWN)


def test_r21_one_that_was_stopped_by_hand_is_reconciles_and_both_are_audited(world):
    tenant = world.tenant(deploy=True)
    world.agents()[0].end()
    turns(4)
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists()
    assert world.fresh(tenant).health == Health.FAILING
    reconcile.sweep()
    drive_all(world)
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.health) == (Status.RUNNING, Health.OK)
    assert world.agents()[0].state == AgentState.RUNNING
    assert {"tenant.drift", "tenant.repair"} <= set(actions(tenant))


def test_one_that_cannot_be_helped_keeps_nobody_from_being_helped(world, monkeypatch):
    tenants = [world.tenant(f"Tenant {n}", deploy=True) for n in range(2)]
    for agent in world.agents():
        old(agent)
        fall_silent(agent)
    original = health._mend

    def failing(tenant, item, turn):
        if tenant.pk == tenants[0].pk:
            raise RuntimeError("boom")
        original(tenant, item, turn)

    monkeypatch.setattr(health, "_mend", failing)
    turns(3)
    assert tenants[1].runs.filter(kind=RunKind.RESTART).exists()


def test_what_somebody_asked_for_meanwhile_is_not_overwritten(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    fall_silent(world.agents()[0])
    original = health.probe

    def stop_meanwhile(watched):
        found = original(watched)
        world.drive(services.stop(actor=OPERATOR, tenant=tenant))
        return found

    monkeypatch.setattr(health, "probe", stop_meanwhile)
    turns(1)
    assert world.fresh(tenant).health == Health.UNKNOWN


def test_a_turn_that_finds_another_at_work_does_nothing_and_says_so(world):
    health.sweep()
    Sweep.objects.update(lease_until=Now() + timedelta(minutes=1))
    assert health.sweep() is None
    row = Sweep.objects.get(name="health")
    assert (row.overruns, row.epoch) == (1, 1)


def test_r9_an_overtaken_turn_writes_nothing(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    fall_silent(world.agents()[0])
    original = health.probe

    def overtaken(watched):
        found = original(watched)
        Sweep.objects.update(epoch=99)
        return found

    monkeypatch.setattr(health, "probe", overtaken)
    assert health.sweep() is None
    assert world.fresh(tenant).health == Health.OK
    assert not HealthState.objects.exists()


def test_lag_and_duration_are_written_down(world):
    world.tenant(deploy=True)
    health.sweep()
    Sweep.objects.update(started_at=Now() - timedelta(seconds=75))
    health.sweep()
    row = Sweep.objects.get(name="health")
    assert row.lag_ms >= 44_000
    assert (row.items, row.failures, row.error) == (1, 0, "")
    assert row.finished_at >= row.started_at and row.duration_ms >= 0


def test_a_turn_that_fails_says_why_and_gives_the_lease_back(world, monkeypatch):
    monkeypatch.setattr(health, "watch", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        health.sweep()
    row = Sweep.objects.get(name="health")
    assert row.error.startswith("ZeroDivisionError") and row.lease_until is None
