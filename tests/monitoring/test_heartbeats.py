"""Signs of life: on the database's clock, one row per cluster, and red when it ages."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django_q.models import OrmQ, Task

from monitoring import heartbeats, tasks
from monitoring.models import Heartbeat

pytestmark = pytest.mark.django_db


def test_a_cluster_that_never_beat_is_silent():
    assert heartbeats.silent() == ["runs", "sweeps"]


def test_a_beat_is_one_row_however_often_it_comes():
    tasks.beat("runs")
    tasks.beat("runs")
    assert Heartbeat.objects.count() == 1
    assert heartbeats.silent() == ["sweeps"]


def test_an_old_beat_is_silence_and_a_new_one_mends_it():
    tasks.beat("runs")
    Heartbeat.objects.update(beat_at=Now() - timedelta(seconds=31))
    assert heartbeats.silent(["runs"]) == ["runs"]
    assert heartbeats.silent(["runs"], older_than_s=60) == []
    tasks.beat("runs")
    assert heartbeats.silent(["runs"]) == []


def test_r9_a_clock_of_ours_that_jumps_changes_nothing(monkeypatch):
    from django.utils import timezone

    from zcplatform.lib import clock

    tasks.beat("runs")
    ahead = timezone.now() + timedelta(days=365)
    monkeypatch.setattr(timezone, "now", lambda: ahead)
    with clock.use(lambda: ahead):
        assert heartbeats.silent(["runs"]) == []


def test_asking_puts_one_beat_into_that_clusters_queue_and_keeps_no_result():
    heartbeats.ask("sweeps")
    [queued] = OrmQ.objects.all()
    assert (queued.key, queued.func(), queued.args()) == ("sweeps", "monitoring.tasks.beat", ("sweeps",))
    assert queued.q_options()["save"] is False
    assert heartbeats.is_waiting("sweeps") and not heartbeats.is_waiting("runs")
    assert not Task.objects.exists()


def test_what_a_pusher_has_taken_up_is_not_waiting():
    heartbeats.ask("runs")
    OrmQ.objects.update(lock=Now() + timedelta(hours=1))
    assert not heartbeats.is_waiting("runs")
