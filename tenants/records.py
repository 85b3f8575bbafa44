"""Rows that several apps write or read and none to the right of ``tenants`` may own: what agents used, and how the
platform's own jobs ended. Here, because the door, the gateway and the backups stand to the left of monitoring."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from zcplatform.lib import clock


class UsageHour(models.Model):
    """What a tenant used in one hour. A row or a value that is absent is "no data", which is not zero.

    ``period_start`` is the hour's first second since 1970, UTC. What passes the platform's own doors is counted there
    and then; of an agent's own counters only what exceeds that is added (``UsageSource``).
    """

    pk = models.CompositePrimaryKey("tenant", "period_start")
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, db_index=False, related_name="usage_hours")
    period_start = models.BigIntegerField()
    messages_in = models.PositiveBigIntegerField(null=True)
    messages_out = models.PositiveBigIntegerField(null=True)
    tokens_in = models.PositiveBigIntegerField(null=True)
    tokens_out = models.PositiveBigIntegerField(null=True)

    FIELDS: ClassVar[tuple[str, ...]] = ("messages_in", "messages_out", "tokens_in", "tokens_out")

    class Meta:
        db_table = "usage_metrics"

    def __str__(self) -> str:
        return f"usage of {self.tenant_id} at {self.period_start}"


class UsageSource(models.Model):
    """What one of the platform's own doors counted of a tenant since it first did; only ever grows. The agent's
    counters hold the same messages and more, so who adds those up takes these off."""

    class Source(models.TextChoices):
        DOOR = "door"

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="usage_sources")
    source = models.CharField(max_length=10, choices=Source.choices)
    messages_in = models.PositiveBigIntegerField(default=0)
    messages_out = models.PositiveBigIntegerField(default=0)
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "usage_sources"
        constraints = [models.UniqueConstraint(fields=["tenant", "source"], name="usage_source_once")]

    def __str__(self) -> str:
        return f"what the {self.source} counted of {self.tenant_id}"


class JobResult(models.Model):
    """How one execution of a job of the platform ended (``backup``, ``restore-drill``): the newest row of a name
    is what alerts look at."""

    name = models.CharField(max_length=40)
    ok = models.BooleanField()
    at = models.DateTimeField(default=clock.now)
    detail = models.TextField(blank=True)

    class Meta:
        db_table = "job_results"
        indexes = [models.Index(fields=["name", "-at"], name="job_result_newest")]

    def __str__(self) -> str:
        return f"{self.name}: {'ok' if self.ok else 'failed'}"


class Event(models.Model):
    """One row of the outbox, written in the transaction of the change it tells of. The key is the sequence number."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="events")
    type = models.CharField(max_length=64)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "events"
        indexes = [models.Index(fields=["tenant", "id"], name="event_of_tenant")]

    def __str__(self) -> str:
        return f"#{self.pk} {self.type}"
