"""States in words, with a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tenants import words
from tenants.models import Tenant
from tenants.states import Health, Reason, Status
from zcplatform.lib import clock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def still():
    with clock.use(lambda: NOW):
        yield


@pytest.mark.parametrize(
    ("columns", "headline"),
    [
        ({"status": "draft"}, "Not deployed yet"),
        ({"status": "running", "running_since": NOW - timedelta(days=3, hours=5)}, "Running for 3 days"),
        ({"status": "running", "running_since": NOW}, "Running for less than a minute"),
        ({"status": "running", "health": Health.FAILING}, "Running: its health check fails"),
        (
            {"status": "running", "health": Health.FAILING, "health_at": NOW - timedelta(minutes=5)},
            "Running, and has not answered for 5 minutes",
        ),
        ({"status": "error", "reason": "oom_killed"}, "Error: the agent ran out of memory"),
        ({"status": "deploying", "reason": "waiting_for_health"}, "Deploying: waiting for the agent to answer"),
        ({"status": "suspended", "reason": "held"}, "Suspended"),
        ({"status": "deleted", "deleted_at": NOW - timedelta(hours=2)}, "Deleted 2 hours ago"),
    ],
)
def test_the_headline_says_what_is_and_why(columns, headline):
    assert words.headline(Tenant(**columns)) == headline


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("reason", list(Reason))
def test_every_state_has_words(status, reason):
    tenant = Tenant(status=status, reason=reason)
    assert words.headline(tenant)
    if status == Status.ERROR:
        assert words.next_step(tenant), "an error always says what to do"


def test_ago():
    assert words.ago(NOW) == "just now"
    assert words.ago(NOW - timedelta(minutes=61)) == "1 hour ago"
