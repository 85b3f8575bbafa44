"""The uptime figure: of the time a tenant was due, the time it was up; from the events that the services write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from monitoring import uptime
from tenants import health
from tenants.models import Event, Tenant
from tenants.status import save, set_status
from tests.accounts.conftest import Api, access_token
from tests.factories import TenantFactory
from zcplatform.lib import clock

T0 = datetime(2026, 11, 25, tzinfo=UTC)


def test_a_tenant_that_ran_all_the_time_was_up_all_the_time():
    state = {"desired": "running", "status": "running", "health": "ok"}
    found = uptime.within([], state, T0, T0 + timedelta(hours=24))
    assert (found.due_s, found.up_s, found.share) == (86_400, 86_400, 1.0)


def test_one_that_nobody_wanted_to_run_has_no_figure():
    state = {"desired": "suspended", "status": "suspended", "health": "unknown"}
    assert uptime.within([], state, T0, T0 + timedelta(hours=24)).share is None


def at(hours, column, was, to):
    return (T0 + timedelta(hours=hours), column, was, to)


def test_failing_and_deploying_is_downtime_stopped_and_unknown_is_none():
    changes = [
        at(2, "health", "ok", "failing"),  # 0-2 up, 2-3 down
        at(3, "health", "failing", "ok"),
        at(5, "desired", "running", "stopped"),  # 3-5 up, 5-9 not due
        at(9, "desired", "stopped", "running"),
        at(9, "status", "running", "deploying"),  # 9-10 down
        at(10, "status", "deploying", "running"),  # 10-12 up
        at(12, "health", "ok", "unknown"),  # 12-16 counts neither way
        at(16, "health", "unknown", "ok"),  # 16-20 up
    ]
    state = {"desired": "running", "status": "running", "health": "ok"}
    found = uptime.within(changes, state, T0, T0 + timedelta(hours=20))
    assert (found.due_s / 3_600, found.up_s / 3_600) == (12, 10)


values = {
    "desired": ["running", "stopped", "suspended"],
    "status": ["running", "deploying", "error", "stopped"],
    "health": ["ok", "failing", "unknown"],
}
steps = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(sorted(values)), st.integers(0, 3)), max_size=25)


@given(steps, st.integers(0, 400), st.integers(0, 400))
def test_over_any_history_it_is_what_counting_second_by_second_gives(steps, begin, length):
    state = {"desired": "running", "status": "running", "health": "ok"}
    seconds, changes, timeline = 0, [], {}
    for wait, column, choice in steps:
        for second in range(seconds, seconds + wait):
            timeline[second] = dict(state)
        seconds += wait
        to = values[column][choice % len(values[column])]
        changes.append((T0 + timedelta(seconds=seconds), column, state[column], to))
        state[column] = to
    end = begin + length
    for second in range(seconds, end):
        timeline[second] = dict(state)
    looked = [c for c in changes if c[0] > T0 + timedelta(seconds=begin)]
    found = uptime.within(looked, state, T0 + timedelta(seconds=begin), T0 + timedelta(seconds=end))
    then = [timeline[second] for second in range(begin, end)]
    due = [s for s in then if s["desired"] == "running" and (s["status"], s["health"]) != ("running", "unknown")]
    up = [s for s in due if (s["status"], s["health"]) == ("running", "ok")]
    assert (found.due_s, found.up_s) == (len(due), len(up))


def test_r9_a_clock_that_was_put_back_makes_nothing_negative():
    changes = [at(10, "health", "ok", "failing"), at(4, "health", "failing", "ok")]
    state = {"desired": "running", "status": "running", "health": "ok"}
    found = uptime.within(changes, state, T0, T0 + timedelta(hours=20))
    assert 0 <= found.up_s <= found.due_s == 20 * 3_600


class Moving:
    def __init__(self):
        self.at = T0

    def __call__(self):
        return self.at


@pytest.mark.django_db
def test_it_follows_from_what_the_services_tell(owner, tenant):
    """No event is made up here: those of the doors through which the columns are written are enough."""
    time = Moving()
    with clock.use(time):
        row = TenantFactory(created_at=T0)
        act(save, row, desired="running")
        act(set_status, row, "deploying")
        time.at += timedelta(minutes=6)
        act(set_status, row, "running")
        act(save, row, health="ok")
        time.at += timedelta(minutes=30)
        with transaction.atomic():
            health.note({row.pk: "failing"}, {})
        time.at += timedelta(minutes=12)
        with transaction.atomic():
            health.note({row.pk: "ok"}, {})
        time.at += timedelta(minutes=12)
        found = uptime.of(Tenant.objects.get(pk=row.pk))
    assert {name: (u.due_s / 60, u.up_s / 60) for name, u in found.items()} == dict.fromkeys(uptime.SPANS, (60, 42))


@pytest.mark.django_db
def test_the_api_tells_members_and_nobody_else(owner, colleague, stranger, tenant):
    Tenant.objects.filter(pk=tenant.pk).update(
        desired="running", status="running", health="ok", created_at=clock.now() - timedelta(days=2)
    )
    Event.objects.create(
        tenant=tenant,
        type="tenant.health",
        data={"from": "failing", "to": "ok"},
        created_at=clock.now() - timedelta(days=1.5),
    )
    path = f"tenants/{tenant.public_id}/uptime"
    for user in (owner, colleague):
        found = Api(access_token(user)).get(path).json()
        assert found["24h"]["share"] == 1.0
        assert found["7d"]["share"] == found["30d"]["share"] == pytest.approx(0.75, abs=0.01)
    assert Api(access_token(stranger)).get(path).status_code == 404


def act(how, *args, **fields):
    with transaction.atomic():
        how(*args, **fields)
