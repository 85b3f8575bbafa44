"""The periodic jobs: they run through the queue's entry points, and the outside hears that they do."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from django_q.models import OrmQ

from monitoring import heartbeats, tasks
from monitoring.alerting import deadman
from monitoring.alerting.models import AlertRule, Delivery
from monitoring.models import Sweep
from tests import outside

pytestmark = pytest.mark.django_db


@pytest.fixture
def watcher(settings):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)
    with outside.server() as made:
        settings.HEARTBEAT_URL = outside.url(made, path="/ping/abc?x=1")
        yield made


def test_a_look_that_queued_messages_wakes_the_sender(dial, notifier, rule):
    AlertRule.objects.update(hold_s=0)
    dial.show(99.0)
    assert tasks.evaluate_alerts() is True
    assert [task.func() for task in OrmQ.objects.all()] == ["monitoring.tasks.send_alerts"]
    assert Delivery.objects.get().state == "queued", "nothing is sent by the look itself"


def test_the_outside_is_told_every_time_that_the_platform_looks_after_itself(watcher):
    for cluster in heartbeats.CLUSTERS:
        heartbeats.beat(cluster)
    assert tasks.evaluate_alerts() is True
    assert tasks.evaluate_alerts() is True
    assert [seen.path for seen in watcher.seen] == ["/ping/abc?x=1"] * 2


def test_it_is_not_told_when_a_cluster_is_silent_or_the_look_broke_off(watcher, monkeypatch):
    heartbeats.beat("sweeps")
    tasks.evaluate_alerts()
    assert watcher.seen == []
    heartbeats.beat("runs")
    monkeypatch.setattr("monitoring.alerting.sweeps.evaluate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.evaluate_alerts()
    assert watcher.seen == []
    assert "ZeroDivisionError" in Sweep.objects.get(name="alerts").error


def test_a_watcher_that_does_not_answer_breaks_nothing(watcher, settings):
    watcher.script = lambda handler: handler.answer(500)
    assert deadman.ping() is False
    settings.HEARTBEAT_URL = "http://127.0.0.1:1/"
    assert deadman.ping() is False
    settings.HEARTBEAT_URL = ""
    assert deadman.ping() is False


@pytest.mark.django_db(transaction=True)
def test_the_senders_turn_is_noted(notifier):
    assert tasks.send_alerts() is True
    assert Sweep.objects.get(name="alert-messages").items == 0
