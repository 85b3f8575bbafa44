"""The usage sweep over agents that are listeners: hours, gaps, lives, doubled turns (R9), and the marks of quotas."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import probing, quota_marks
from monitoring.collectors import usage as collector
from monitoring.models import QuotaMark, Sweep, UsageCounter
from tenants import quotas, services, usage
from tenants.agents.base import Counters
from tenants.models import Event, Plan, Tenant
from tenants.records import UsageHour
from tests.factories import TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
COLUMNS = ("messages_in", "messages_out", "tokens_in", "tokens_out")


def exposition(messages=0, tokens=0):
    return (
        f'zeroclaw_channel_messages_total{{channel="a",direction="inbound"}} {messages}\n'
        f'zeroclaw_channel_messages_total{{channel="b",direction="outbound"}} {messages}\n'
        f'zeroclaw_tokens_input_total{{model="m"}} {tokens}\n'
        f'zeroclaw_tokens_output_total{{model="m"}} {2 * tokens}\n'
    ).encode()


class Metered:
    """A deployed tenant whose port belongs to a listener that tells what the test wants."""

    def __init__(self, world, listeners, name="Acme"):
        self.tenant, self.listeners = world.tenant(name, deploy=True), listeners
        self.agent = next(a for a in world.agents() if a.spec.tenant == str(self.tenant.public_id))
        self.agent.server.shutdown()
        self.agent.server.server_close()
        self.agent.server = None
        self.port = listeners.open(port=self.tenant.port)

    def tells(self, **counts):
        self.listeners.modes[self.port] = "ok"
        self.listeners.bodies[self.port] = exposition(**counts)

    def restarted(self):
        self.agent.started_at = clock.now() + timedelta(days=len(self.agent.output))
        self.agent.output.append("again")


@pytest.fixture
def acme(world, listeners):
    return Metered(world, listeners)


def sweep_at(moment):
    with clock.use(lambda: moment):
        return collector.sweep()


def hours():
    return {
        datetime.fromtimestamp(row[0], UTC).hour: row[1:]
        for row in UsageHour.objects.values_list("period_start", *COLUMNS)
    }


def test_what_came_since_the_last_time_goes_into_the_present_hour(acme):
    acme.tells(messages=5, tokens=100)
    sweep_at(NOON)
    acme.tells(messages=7, tokens=150)
    sweep_at(NOON + timedelta(minutes=5))
    sweep_at(NOON + timedelta(minutes=10))
    acme.tells(messages=8, tokens=150)
    sweep_at(NOON + timedelta(minutes=40))
    assert hours() == {12: (7, 7, 150, 300), 13: (1, 1, 0, 0)}
    assert UsageCounter.objects.get().messages_in == 8


@pytest.mark.parametrize("mode", ["hang", "503", "drop", "flood"])
def test_no_answer_is_a_gap_and_the_next_answer_makes_up_for_it(acme, listeners, monkeypatch, mode):
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.3)
    acme.tells(messages=5)
    sweep_at(NOON)
    listeners.modes[acme.port] = mode
    assert sweep_at(NOON + timedelta(hours=1)).failures == 1
    assert list(hours()) == [12]
    acme.tells(messages=9)
    sweep_at(NOON + timedelta(hours=2))
    assert hours()[14][0] == 4


def test_a_comment_alone_is_no_data_and_not_zero(acme, listeners):
    acme.tells()
    listeners.bodies[acme.port] = b"# prometheus backend is off\n"
    assert sweep_at(NOON).failures == 1
    assert hours() == {} and not UsageCounter.objects.exists()


def test_r9_a_restart_counts_from_zero_even_where_the_new_count_is_higher(acme):
    acme.tells(messages=5)
    sweep_at(NOON)
    acme.restarted()
    acme.tells(messages=6)
    sweep_at(NOON)
    assert hours()[12][0] == 11


def test_an_agent_that_is_started_anew_while_it_is_asked_waits_for_the_next_turn(acme, monkeypatch):
    acme.tells(messages=5)
    original = collector.lives
    seen = []

    def lives(asked):
        found = original(asked)
        seen.append(found)
        return {key: f"{life}/{len(seen)}" for key, life in found.items()}

    with monkeypatch.context() as patch:
        patch.setattr(collector, "lives", lives)
        assert sweep_at(NOON).failures == 1
    assert hours() == {}
    sweep_at(NOON)
    assert hours()[12][0] == 5


def test_r9_a_clock_that_jumps_an_hour_either_way_loses_and_doubles_nothing(acme):
    for number, shift in enumerate((0, 60, -60, 0, 120), 1):
        acme.tells(messages=10 * number)
        sweep_at(NOON + timedelta(minutes=shift))
    assert sum(row[0] for row in hours().values()) == 50


HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["asked", "asked", "restart", "gap", "twice", "silent", "part"]),
        st.integers(0, 10**6),
        st.integers(-3_600, 3_600),
    ),
    max_size=20,
)


def answers(tenant, life, counts, _asked):
    turn = UsageCounter.objects.filter(tenant=tenant).values_list("turn", flat=True).first() or 0
    return {tenant.pk: collector.Told(life, counts, turn)}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HAPPENINGS)
def test_r9_over_any_sequence_the_hours_sum_up_to_what_was_counted(db, monkeypatch, happenings):
    """Whole turns, with the clock jumping up to an hour either way between any two: an agent that works on, is started
    anew, is not reached, is asked twice, gives no data, or only one of its counters. Nothing is lost but what a life
    counted after its last answer, and nothing comes twice."""
    with transaction.atomic():
        tenant, moment, life = TenantFactory(status="running"), NOON, 0
        counted, seen, earlier = Counter(), Counter(), Counter()
        monkeypatch.setattr(collector, "whom", lambda _tenants: [tenant])
        for what, amount, jump in happenings:
            moment += timedelta(seconds=300 + jump)
            if what == "restart":
                life, counted, seen, earlier = life + 1, Counter(), Counter(), earlier + seen
            counted["messages_in"] += amount
            counted["tokens_out"] += 2 * amount
            if what == "gap":
                continue
            told = {"silent": (), "part": ("tokens_out",)}.get(what, ("messages_in", "tokens_out"))
            counts = Counters(**{name: counted[name] for name in told})
            answer = partial(answers, tenant, f"life {life}", counts) if told else lambda _asked: {}
            monkeypatch.setattr(collector, "scrape", answer)
            for _ in range(2 if what == "twice" else 1):
                sweep_at(moment)
            seen.update({name: counted[name] - seen[name] for name in told})
        sums = UsageHour.objects.aggregate(messages_in=Sum("messages_in"), tokens_out=Sum("tokens_out"))
        for name in ("messages_in", "tokens_out"):
            assert (sums[name] or 0) == (earlier + seen)[name]
        transaction.set_rollback(True)


def test_a_turn_that_is_overtaken_counts_nothing_and_its_successor_everything(acme, monkeypatch):
    acme.tells(messages=5)
    original = collector.scrape

    def overtaken(asked):
        Sweep.objects.update(epoch=99)
        return original(asked)

    with monkeypatch.context() as patch:
        patch.setattr(collector, "scrape", overtaken)
        assert sweep_at(NOON) is None
    assert hours() == {}
    Sweep.objects.update(lease_until=None)
    sweep_at(NOON)
    assert hours()[12][0] == 5


def test_a_turn_that_dies_between_two_writes_leaves_neither(acme, monkeypatch):
    acme.tells(messages=5)
    with monkeypatch.context() as patch:
        patch.setattr(type(UsageCounter.objects.all()), "bulk_update", lambda *a, **k: 1 / 0)
        sweep_at(NOON)
    assert hours() == {}
    sweep_at(NOON)
    assert hours()[12][0] == 5


def test_one_that_tells_absurd_figures_harms_neither_itself_nor_others(world, listeners):
    acme, other = Metered(world, listeners), Metered(world, listeners, "Other")
    acme.tells(messages=10**300, tokens=7)
    other.tells(messages=3)
    sweep_at(NOON)
    assert UsageHour.objects.filter(tenant=acme.tenant).values_list("messages_in", "tokens_in").get() == (None, 7)
    assert UsageHour.objects.filter(tenant=other.tenant).values_list("messages_in", flat=True).get() == 3


def test_kinds_that_count_nothing_and_agents_that_are_down_are_not_asked(world, acme):
    assert [asked.pk for asked in collector.whom(Tenant.objects.filter(status="running"))] == [acme.tenant.pk]
    Tenant.objects.filter(pk=acme.tenant.pk).update(agent_kind="openclaw")
    assert collector.whom(Tenant.objects.filter(status="running")) == []


# --- quotas -------------------------------------------------------------------------------------------------


def spend(tenant, moment, **counts):
    with clock.use(lambda: moment):
        usage.add(tenant.pk, **counts)


def test_messages_count_by_the_day_and_tokens_by_the_month(tenant):
    spend(tenant, NOON, messages_in=30, messages_out=99, tokens_in=5, tokens_out=6)
    spend(tenant, NOON - timedelta(days=1), messages_in=7, tokens_in=100)
    spend(tenant, NOON - timedelta(days=10), messages_in=7, tokens_in=1_000)
    with clock.use(lambda: NOON):
        messages, tokens = quotas.of(tenant)
    assert (messages.used, messages.limit, messages.known) == (30, 10_000, True)
    assert (tokens.used, tokens.limit, tokens.share) == (111, 10_000_000, 111 / 10_000_000)
    assert datetime.fromtimestamp(messages.resets_at, UTC) == datetime(2026, 3, 11, tzinfo=UTC)
    assert datetime.fromtimestamp(tokens.resets_at, UTC) == datetime(2026, 4, 1, tzinfo=UTC)


def test_nothing_counted_is_not_known_and_a_counted_zero_is(tenant):
    assert [quota.known for quota in quotas.of(tenant)] == [False, False]
    usage.add(tenant.pk, messages_in=0)
    assert [quota.known for quota in quotas.of(tenant)] == [True, False]


def test_r9_the_last_month_of_the_year_ends_with_it():
    assert quotas.month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == (
        int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()),
        int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()),
    )


def test_many_tenants_take_two_queries(db, django_assert_num_queries):
    tenants = [TenantFactory() for _ in range(5)]
    usage.add(tenants[0].pk, messages_in=1)
    with django_assert_num_queries(2):
        assert quotas.of_many(tenants)[tenants[0].pk][0].used == 1


def told(tenant):
    data = Event.objects.filter(tenant=tenant, type="quota.reached").order_by("pk").values_list("data", flat=True)
    return [(item["quota"], item["percent"], item["used"]) for item in data]


def test_each_mark_is_told_once_in_a_period_and_anew_in_the_next(tenant):
    def spend_and_look(moment, count):
        spend(tenant, moment, messages_in=count)
        with clock.use(lambda: moment):
            quota_marks.tell_all([tenant])
            quota_marks.tell_all([tenant])

    spend_and_look(NOON, 7_999)
    assert told(tenant) == []
    for count in (1, 999, 1, 500, 600):
        spend_and_look(NOON, count)
    assert told(tenant) == [("messages", 80, 8_000), ("messages", 90, 9_000), ("messages", 100, 10_100)]
    spend_and_look(NOON + timedelta(days=1), 8_500)
    assert told(tenant)[3:] == [("messages", 80, 8_500)]


def test_a_bigger_plan_makes_reaching_a_mark_news_again(tenant):
    spend(tenant, NOON, messages_in=9_500)
    with clock.use(lambda: NOON):
        quota_marks.tell_all([tenant])
        Plan.objects.update(max_messages_per_day=100_000)
        tenant.refresh_from_db()
        quota_marks.tell_all([tenant])
    assert QuotaMark.objects.get(quota="messages").mark == 0
    spend(tenant, NOON, messages_in=75_000)
    with clock.use(lambda: NOON):
        quota_marks.tell_all([tenant])
    assert [mark[:2] for mark in told(tenant)] == [("messages", 90), ("messages", 80)]


def test_a_deleted_tenants_usage_is_of_no_interest(world, acme):
    acme.tells(messages=50_000)
    sweep_at(NOON)
    assert [mark[1] for mark in told(acme.tenant)] == [100]
    world.drive(services.delete(actor=OPERATOR, tenant=acme.tenant))
    assert collector.whom(Tenant.objects.filter(status="running")) == []
