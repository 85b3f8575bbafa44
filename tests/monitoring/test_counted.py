"""Nothing that was answered goes uncounted when its agent ends, and nothing is counted twice: the doors' counts, the
agent's own, and the last look before each stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import deltas, probing, queries
from monitoring.collectors import usage as collector
from monitoring.models import UsageCounter
from tenants import quotas, reconcile, services, usage
from tenants.records import UsageHour, UsageSource
from tests.factories import PlanFactory
from tests.monitoring.test_usage import Metered
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

DOOR = UsageSource.Source.DOOR


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.3)


@pytest.fixture
def acme(world, listeners):
    return Metered(world, listeners)


def chats(acme, count):
    usage.add_passed(DOOR, {acme.tenant.pk: {"messages_in": count, "messages_out": count}})


def counted():
    return sum(UsageHour.objects.values_list("messages_in", flat=True))


STOPS = {
    "stop": lambda t: services.stop(actor=OPERATOR, tenant=t),
    "restart": lambda t: services.restart(actor=OPERATOR, tenant=t),
    "suspend": lambda t: services.suspend(actor=OPERATOR, tenant=t),
    "delete": lambda t: services.delete(actor=OPERATOR, tenant=t),
    "rename": lambda t: services.rename(actor=OPERATOR, tenant=t, name="Another name"),
    "resize": lambda t: services.resize(actor=OPERATOR, tenant=t, plan="big"),
    "rotate": lambda t: services.rotate_secrets(actor=OPERATOR, tenant=t).run,
}


@pytest.mark.parametrize("verb", STOPS)
def test_what_an_agent_counted_is_read_before_every_stop(world, acme, verb):
    PlanFactory(slug="big", memory_limit_mb=2_048)
    acme.tells(messages=10)
    collector.sweep()
    acme.tells(messages=80)
    world.drive(STOPS[verb](acme.tenant))
    assert counted() == 80


def test_an_agent_that_was_changed_behind_our_back_is_read_before_it_is_replaced(world, acme):
    acme.tells(messages=80)
    acme.agent.spec = replace(acme.agent.spec, memory_mb=1)
    world.drive(services.repair(tenant=world.fresh(acme.tenant), cause="agent_changed"))
    assert counted() == 80


def test_an_agent_that_hangs_is_stopped_all_the_same(world, acme, listeners):
    chats(acme, 80)
    listeners.modes[acme.port] = "hang"
    world.drive(services.stop(actor=OPERATOR, tenant=acme.tenant))
    assert world.fresh(acme.tenant).status == "stopped"
    assert counted() == 80


def test_a_fault_of_whoever_wants_to_know_delays_no_stop(world, acme, monkeypatch):
    monkeypatch.setattr(usage, "BEFORE_STOP", [lambda _tenant: 1 / 0])
    world.drive(services.stop(actor=OPERATOR, tenant=acme.tenant))
    assert world.fresh(acme.tenant).status == "stopped"


def test_what_passed_the_door_is_counted_whatever_becomes_of_the_agent(acme, listeners):
    """Killed before it was asked even once."""
    chats(acme, 80)
    acme.restarted()
    acme.tells(messages=0)
    collector.sweep()
    assert counted() == 80


def test_a_message_is_counted_once_whoever_saw_it_first(acme):
    chats(acme, 5)
    acme.tells(messages=5)
    collector.sweep()
    assert counted() == 5
    acme.tells(messages=8)  # the agent tells of three that the door has not written down yet
    collector.sweep()
    chats(acme, 3)
    collector.sweep()
    assert counted() == 8 + 3, "for the moment: nobody can tell these from a channel's"
    acme.tells(messages=11)
    collector.sweep()
    assert counted() == 11


def test_what_comes_by_a_channel_is_added_to_what_passes_the_door(acme):
    chats(acme, 5)
    acme.tells(messages=7)
    collector.sweep()
    chats(acme, 1)
    acme.tells(messages=10)
    collector.sweep()
    assert counted() == 10


def test_in_another_life_only_what_is_new_is_added(acme):
    chats(acme, 5)
    acme.tells(messages=5)
    collector.sweep()
    chats(acme, 2)
    acme.restarted()
    acme.tells(messages=6)
    collector.sweep()
    assert counted() == 5 + 6


steps = st.lists(st.tuples(st.sampled_from(["door", "channel", "ask", "late"]), st.integers(0, 50)), max_size=40)


@given(steps)
def test_over_any_order_the_sum_of_a_life_is_what_the_agent_counted(happenings):
    """As long as the door has written down what it saw; ``late`` is what it writes after the agent has told of it."""
    agent = door = pending = total = ahead = told = passed = 0
    for what, count in [*happenings, ("flush", 0), ("ask", 0)]:
        agent += count if what in ("door", "channel", "late") else 0
        pending += count if what == "late" else 0
        written = {"door": count, "flush": pending}.get(what, 0)
        pending -= written if what == "flush" else 0
        door, total = door + written, total + written
        if what == "ask":
            added, ahead = deltas.beyond(ahead, door - passed, agent - told, reborn=False)
            told, passed, total = agent, door, total + added
            assert total - ahead == agent, "what is counted too much is known, and comes off the next"
    assert total >= agent


def test_two_that_ask_at_the_same_time_count_once(acme, monkeypatch):
    acme.tells(messages=5)
    original = collector.scrape

    def overtaken(asked):
        found = original(asked)
        with monkeypatch.context() as patch:
            patch.setattr(collector, "scrape", original)
            collector.read_last(acme.tenant)
        return found

    monkeypatch.setattr(collector, "scrape", overtaken)
    collector.sweep()
    assert counted() == 5
    assert UsageCounter.objects.get().turn == 1


def test_a_deleted_tenants_usage_stays_in_the_fleets_sums(world, acme):
    chats(acme, 80)
    world.drive(services.delete(actor=OPERATOR, tenant=acme.tenant))
    assert reconcile.sweep() >= 0
    assert quotas.of_fleet()["today"]["messages_in"] == 80
    assert queries.dashboard()["usage"]["this_month"]["messages_in"] == 80
    assert quotas.of_fleet()["today"]["tokens_in"] is None


def test_what_was_used_before_the_period_is_not_in_its_sums(acme):
    with clock.use(lambda: datetime.now(UTC) - timedelta(days=40)):
        chats(acme, 80)
    assert quotas.of_fleet()["this_month"]["messages_in"] is None
