"""The rules that exist by default, and what metrics read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.models import Mail, User
from audit.models import AuditEntry
from monitoring import audit_check, heartbeats
from monitoring.alerting import rules
from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.metrics import Scope, known, named
from monitoring.alerting.models import Alert, AlertRule
from monitoring.alerting.rules import DEFAULTS, Default, ensure_defaults
from monitoring.models import HealthState, Heartbeat, HostSnapshot, ResourceCounter, ResourceSnapshot, Sweep
from tenants.records import JobResult, UsageHour
from tests.factories import PlanFactory, TenantFactory, UserFactory
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import InvalidField

pytestmark = pytest.mark.django_db


def read(name):
    return {reading.label: reading.value for reading in named(name).read()}


def running(**fields):
    return TenantFactory(**{"desired": "running", "status": "running", "health": "ok", **fields})


def test_the_table_of_the_document_is_there():
    """Document 004: signal, threshold, severity. Its last but one line, the API itself, is watched from outside."""
    ensure_defaults()
    rows = AlertRule.objects.values_list("metric", "comparison", "threshold", "hold_s", "severity")
    assert {
        ("health_errors", "gt", 0, 300, "warning"),
        ("tenant_cpu_pct", "gt", 80, 900, "warning"),
        ("host_disk_pct", "gt", 80, 300, "warning"),
        ("host_disk_pct", "gt", 95, 60, "critical"),
        ("job_failed", "ge", 1, 0, "warning"),
    } <= set(rows)


def test_each_default_is_about_a_known_metric_and_told_to_somebody():
    scopes = {metric.name: metric.scope for metric in known()}
    for default in DEFAULTS:
        assert default.metric in scopes
        assert scopes[default.metric] == Scope.TENANT or default.audience == "platform", default.key
    assert len({default.key for default in DEFAULTS}) == len(DEFAULTS)


def test_they_are_made_once_renewed_when_untouched_and_left_when_edited():
    assert ensure_defaults() == len(DEFAULTS)
    assert ensure_defaults() == 0
    AlertRule.objects.filter(key="host-disk").update(edited_at=clock.now(), threshold=50, enabled=False)
    newer = (Default("host-disk", "New", "host_disk_pct", 85, 60), Default("host-cpu", "New", "host_cpu_pct", 85, 60))
    assert ensure_defaults(newer) == 1
    kept, renewed = AlertRule.objects.get(key="host-disk"), AlertRule.objects.get(key="host-cpu")
    assert (kept.threshold, kept.enabled, renewed.threshold, renewed.name) == (50, False, 85, "New")


def test_a_healthy_platform_is_silent_under_every_default(time):
    ensure_defaults()
    UserFactory()
    running()
    heartbeats.beat("runs")
    HostSnapshot.objects.create(
        ts=int(time.at.timestamp()), cpu_mpct=1_000, mem_bytes=1, mem_total=4, disk_bytes=1, disk_total=8
    )
    assert evaluate().failures == 0
    assert not Alert.objects.exists()


def test_every_metric_is_read_in_as_many_queries_for_many_as_for_one(django_assert_max_num_queries):
    for _ in range(30):
        running()
    for metric in known():
        with django_assert_max_num_queries(6):
            list(metric.read())


def test_an_unknown_metric_is_refused_by_name():
    with pytest.raises(InvalidField) as refused:
        named("rm")
    assert (refused.value.type, refused.value.details["field"]) == ("unknown_metric", "metric")


def test_fleet_metrics_read_what_is(time):
    TenantFactory(status="error", desired="running")
    TenantFactory(status="error", desired="stopped")
    running(health="failing")
    running(health="unknown")
    assert read("tenants_in_error") == {"": 2} and read("health_errors") == {"": 2}
    Sweep.objects.create(name="health", lag_ms=1_500)
    Sweep.objects.create(name="usage", error="ValueError")
    assert read("sweep_lag_s") == {"health": 1.5, "usage": None}
    assert read("sweep_failing") == {"health": 0, "usage": 1}
    heartbeats.ask("runs")
    assert read("queue_depth") == {"runs": 1, "sweeps": 0}
    heartbeats.beat("runs")
    Heartbeat.objects.update(beat_at=Now() - timedelta(seconds=90))
    assert 89 <= read("heartbeat_age_s")["runs"] <= 150


def test_a_host_that_was_not_looked_at_lately_is_not_known(time):
    assert read("host_disk_pct") == {"": None}
    HostSnapshot.objects.create(
        ts=int(time.at.timestamp()), cpu_mpct=83_000, mem_bytes=3, mem_total=4, disk_bytes=96, disk_total=100
    )
    assert (read("host_cpu_pct"), read("host_memory_pct"), read("host_disk_pct")) == ({"": 83}, {"": 75}, {"": 96})
    time.pass_(minutes=6)
    assert read("host_cpu_pct") == {"": None}


def test_jobs_and_backups_read_their_newest_result(time):
    User.objects.all().delete()
    assert read("backup_age_s") == {"": None}
    UserFactory(created_at=time.at - timedelta(hours=30))
    assert read("backup_age_s") == {"": 30 * 3_600}
    JobResult.objects.create(name="backup", ok=True, at=time.at - timedelta(hours=2))
    JobResult.objects.create(name="backup", ok=False, at=time.at - timedelta(hours=1))
    assert (read("backup_age_s"), read("job_failed")) == ({"": 7_200}, {"backup": 1})
    JobResult.objects.create(name="backup", ok=True, at=time.at)
    assert read("job_failed") == {"backup": 0}


def test_the_audits_chain_is_checked_once_a_day_and_a_broken_one_is_told():
    from django.db import connection, transaction

    from audit import triggers
    from audit.services import record

    assert read("audit_chain_broken") == {"": None}
    with transaction.atomic():
        record("platform.bootstrap", actor=SYSTEM)
    assert audit_check.run() is True
    assert (read("audit_chain_broken"), read("job_failed")) == ({"": 0}, {})
    triggers.remove(connection)
    AuditEntry.objects.update(actor_email="somebody@else.test")
    triggers.install(connection)
    assert audit_check.run() is False
    assert read("audit_chain_broken") == {"": 1}
    assert "row" in JobResult.objects.order_by("-pk").first().detail


def test_mail_that_waits_is_told(time):
    assert read("mail_queue_age_s") == {"": 0}
    Mail.objects.create(
        recipient="a@example.test",
        subject="x",
        sealed_text="x",
        created_at=time.at - timedelta(minutes=20),
        next_attempt_at=time.at,
        expires_at=time.at + timedelta(days=1),
    )
    assert read("mail_queue_age_s") == {"": 1_200}


def test_tenant_metrics_read_what_is_and_know_what_is_not_known(time):
    plan = PlanFactory(slug="tiny", max_messages_per_day=100, max_tokens_per_month=1_000, disk_limit_mb=10)
    known_one, silent = running(plan=plan, slug="known"), running(plan=plan, slug="silent")
    TenantFactory(plan=plan, slug="down", desired="stopped", status="stopped")
    now = int(time.at.timestamp())
    snapshot = {"tenant": known_one, "cpu_limit_pct": 25, "mem_limit": 200}
    ResourceSnapshot.objects.create(ts=now - 120, cpu_mpct=1_000, mem_bytes=20, **snapshot)
    ResourceSnapshot.objects.create(ts=now - 60, cpu_mpct=20_000, mem_bytes=150, **snapshot)
    ResourceSnapshot.objects.create(ts=now - 900, tenant=silent, cpu_mpct=99_000, mem_bytes=1, mem_limit=1)
    assert read("tenant_cpu_pct") == {"known": 80, "silent": None}
    assert read("tenant_memory_pct") == {"known": 75, "silent": None}
    ResourceCounter.objects.create(tenant=known_one, disk_bytes=5 * 1_048_576)
    assert read("tenant_disk_pct") == {"known": 50, "silent": None, "down": None}
    hour = now - now % 3_600
    UsageHour.objects.create(tenant=known_one, period_start=hour, messages_in=90, tokens_in=100, tokens_out=None)
    assert read("tenant_messages_pct") == {"known": 90, "silent": None}
    assert read("tenant_tokens_pct") == {"known": 10, "silent": None}
    HealthState.objects.create(tenant=known_one, since=time.at, restarts=[1, 2, 3])
    assert read("tenant_restarts") == {"known": 3, "silent": 0}


def test_health_of_a_tenant_is_failing_fine_or_not_known():
    for slug, health in (("good", "ok"), ("bad", "failing"), ("who-knows", "unknown")):
        running(slug=slug, health=health)
    TenantFactory(slug="broken", desired="running", status="error")
    assert read("tenant_failing") == {"good": 0, "bad": 1, "who-knows": None}
    assert read("tenant_in_error") == {"good": 0, "bad": 0, "who-knows": 0, "broken": 1}


def test_r4_an_engine_that_does_not_answer_raises_no_alert_about_tenants(time):
    ensure_defaults()
    for _ in range(5):
        running(health="unknown")
    for _ in range(20):
        assert evaluate().failures == 0
        time.pass_(minutes=1)
    assert not Alert.objects.filter(tenant__isnull=False).exists()
    assert rules.DEFAULTS
