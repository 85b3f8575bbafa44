"""A clock that the test moves, a metric that says what the test wants, and notifiers that need nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.alerting.metrics import Reading, Scope, registry
from monitoring.alerting.models import AlertRule, Notifier
from zcplatform.lib import clock


class Clock:
    def __init__(self):
        self.at = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def __call__(self):
        return self.at

    def pass_(self, **span):
        self.at += timedelta(**span)


@pytest.fixture
def time():
    moving = Clock()
    with clock.use(moving):
        yield moving


class Dial:
    """The metric ``dial``: ``show`` sets what it reads, by subject."""

    def __init__(self):
        self.readings = []

    def show(self, *values, tenant=None):
        if tenant is not None:
            self.readings = [Reading(str(tenant.public_id), values[0], tenant.slug, tenant.pk)]
        else:
            self.readings = [Reading(str(n) if n else "", value, f"thing {n}") for n, value in enumerate(values)]

    def read(self):
        if isinstance(self.readings, Exception):
            raise self.readings
        return self.readings


@pytest.fixture
def dial(monkeypatch):
    made = Dial()
    monkeypatch.setitem(registry._metrics, "dial", registry.Metric("dial", "Dial", "%", Scope.PLATFORM, made.read))
    return made


@pytest.fixture
def rule(db, dial):
    return AlertRule.objects.create(name="Dial is high", metric="dial", threshold=80, hold_s=120, repeat_s=3_600)


@pytest.fixture
def notifier(db):
    return Notifier.objects.create(name="ops", kind="webhook", config={"url": "https://hooks.example.test/"})
