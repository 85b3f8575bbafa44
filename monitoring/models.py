"""What the platform knows of its own processes, and what its sweeps have seen of the agents and the host.

Time series have whole numbers only (bytes, thousandths of a percent, seconds since 1970 in UTC) and a key of tenant
and time, in whose order SQLite keeps them. A value that is absent was not known: a gap, never a zero.
"""

from __future__ import annotations

from django.db import models

from monitoring.alerting import models as alerting  # noqa: F401 - Django looks for models here
from tenants.models import Tenant
from zcplatform.lib import clock


class Heartbeat(models.Model):
    """The last sign of life of a part of the platform (``runs``, ``sweeps``), on the database's clock."""

    name = models.CharField(max_length=40, unique=True)
    beat_at = models.DateTimeField()

    class Meta:
        db_table = "heartbeats"

    def __str__(self) -> str:
        return self.name


class Leader(models.Model):
    """Who runs the workers of this database: one home of one host at a time, by lease (``zcplatform.leader``)."""

    name = models.CharField(max_length=40, unique=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=200, blank=True)
    epoch = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "leaders"

    def __str__(self) -> str:
        return self.name


class RunTotals(models.Model):
    """What the runs came to whose rows are gone; one row. ``number`` counts how many times some went."""

    number = models.PositiveBigIntegerField(default=0)
    sums = models.JSONField(default=dict)

    class Meta:
        db_table = "run_totals"

    def __str__(self) -> str:
        return f"of the runs that went, {self.number} times"


class Sweep(models.Model):
    """One periodic sweep: its lease, and how the last turn went.

    ``epoch`` counts the turns: what is measured in turns (strikes, the pause before a restart) does not care for a
    clock that jumps. ``finished_at`` is when a turn last ended well. ``lag_ms`` is by how much the last turn began
    later than one interval after the one before; ``overruns`` counts the turns that found another still at work.
    """

    name = models.CharField(max_length=40, unique=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=80, blank=True)
    epoch = models.PositiveIntegerField(default=0)

    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True)
    lag_ms = models.PositiveBigIntegerField(null=True)
    items = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    overruns = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        db_table = "sweeps"

    def __str__(self) -> str:
        return self.name


class HealthState(models.Model):
    """What the health sweep remembers of a tenant between two turns. The judgement itself is ``Tenant.health``.

    ``strikes`` are consecutive failed probes, ``successes`` consecutive good ones of a tenant in error.
    ``restarts`` are the turns in which a restart was asked for; those older than an hour's worth are dropped.
    ``since`` is when ``Tenant.health`` became what it is.
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="health_state")
    strikes = models.PositiveIntegerField(default=0)
    successes = models.PositiveIntegerField(default=0)
    restarts = models.JSONField(default=list)
    since = models.DateTimeField()
    evidence = models.JSONField(default=dict)  # what was seen at the first strike: it may be gone at the third

    class Meta:
        db_table = "health_states"

    def __str__(self) -> str:
        return f"health of {self.tenant_id}"


class ResourceSnapshot(models.Model):
    """What an agent used in the minute before ``ts``, kept for a week.

    ``cpu_mpct`` is in thousandths of a percent of one core, as ``docker stats`` counts; ``cpu_limit_pct`` is what
    the plan gives, in the same percent. ``net_in`` and ``net_out`` are bytes since the sample before.
    """

    pk = models.CompositePrimaryKey("tenant", "ts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_index=False, related_name="snapshots")
    ts = models.BigIntegerField()
    cpu_mpct = models.PositiveIntegerField(null=True)
    cpu_limit_pct = models.PositiveIntegerField(null=True)
    mem_bytes = models.PositiveBigIntegerField(null=True)
    mem_limit = models.PositiveBigIntegerField(null=True)
    disk_bytes = models.PositiveBigIntegerField(null=True)
    net_in = models.PositiveBigIntegerField(null=True)
    net_out = models.PositiveBigIntegerField(null=True)
    pids = models.PositiveIntegerField(null=True)

    class Meta:
        db_table = "resource_snapshots"

    def __str__(self) -> str:
        return f"resources of {self.tenant_id} at {self.ts}"


class ResourceHour(models.Model):
    """An hour of snapshots, kept for a year. ``ts`` is the hour's first second; ``samples`` how many there were."""

    pk = models.CompositePrimaryKey("tenant", "ts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_index=False, related_name="resource_hours")
    ts = models.BigIntegerField()
    samples = models.PositiveIntegerField()
    cpu_mpct_avg = models.PositiveIntegerField(null=True)
    cpu_mpct_max = models.PositiveIntegerField(null=True)
    cpu_limit_pct = models.PositiveIntegerField(null=True)
    mem_bytes_avg = models.PositiveBigIntegerField(null=True)
    mem_bytes_max = models.PositiveBigIntegerField(null=True)
    mem_limit = models.PositiveBigIntegerField(null=True)
    disk_bytes = models.PositiveBigIntegerField(null=True)
    net_in = models.PositiveBigIntegerField(null=True)
    net_out = models.PositiveBigIntegerField(null=True)
    pids_max = models.PositiveIntegerField(null=True)

    class Meta:
        db_table = "resource_hours"

    def __str__(self) -> str:
        return f"an hour of {self.tenant_id} at {self.ts}"


class ResourceCounter(models.Model):
    """The last cumulative readings of an agent, from which the next snapshot is told.

    ``life`` names the life of the agent that counted: with another one, counting began anew. ``read_us`` is the
    host's monotonic clock. ``disk_bytes`` is the folder's last measure, taken at ``disk_at`` (seconds since 1970).
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="resource_counter")
    life = models.CharField(max_length=80, blank=True)
    read_us = models.BigIntegerField(null=True)
    cpu_us = models.BigIntegerField(null=True)
    net_in = models.BigIntegerField(null=True)
    net_out = models.BigIntegerField(null=True)
    disk_bytes = models.BigIntegerField(null=True)
    disk_at = models.BigIntegerField(null=True)

    class Meta:
        db_table = "resource_counters"

    def __str__(self) -> str:
        return f"readings of {self.tenant_id}"


class UsageCounter(models.Model):
    """The last cumulative counts that a tenant's agent told; None where it told none. ``turn`` counts how often.

    ``passed`` is what the platform's own doors had counted by then, ``ahead`` by how much they are ahead of what the
    agent has told since: that much of its next counts is known already.
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="usage_counter")
    life = models.CharField(max_length=80, blank=True)
    messages_in = models.BigIntegerField(null=True)
    messages_out = models.BigIntegerField(null=True)
    tokens_in = models.BigIntegerField(null=True)
    tokens_out = models.BigIntegerField(null=True)
    scraped_at = models.DateTimeField(null=True)
    turn = models.PositiveBigIntegerField(default=0)
    passed = models.JSONField(default=dict)
    ahead = models.JSONField(default=dict)

    class Meta:
        db_table = "usage_counters"

    def __str__(self) -> str:
        return f"counts of {self.tenant_id}"


class QuotaMark(models.Model):
    """The highest mark (80, 90 or 100 percent) that was told for a quota in its period: told once, not every time.

    ``period`` is the period's first second since 1970; ``quota`` is ``messages``, ``tokens`` or ``disk``.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="quota_marks")
    quota = models.CharField(max_length=12)
    period = models.BigIntegerField()
    mark = models.PositiveSmallIntegerField()

    class Meta:
        db_table = "quota_marks"
        constraints = [models.UniqueConstraint(fields=["tenant", "quota"], name="quota_mark_once")]

    def __str__(self) -> str:
        return f"{self.quota} at {self.mark} %"


class HostSnapshots(models.QuerySet["HostSnapshot"]):
    def newest(self) -> HostSnapshot | None:
        """The last one up to now: what was written while the clock was ahead is not the present."""
        return self.filter(ts__lte=int(clock.now().timestamp())).order_by("-ts").first()


class HostSnapshot(models.Model):
    """The host that the platform runs on. ``cpu_mpct`` is of all its cores together (100,000 is all of them busy);
    the disk is the fullest of those that hold the platform's home and the engine's images."""

    ts = models.BigIntegerField(primary_key=True)
    cpu_mpct = models.PositiveIntegerField(null=True)
    mem_bytes = models.PositiveBigIntegerField()
    mem_total = models.PositiveBigIntegerField()
    disk_bytes = models.PositiveBigIntegerField()
    disk_total = models.PositiveBigIntegerField()
    cpu_busy_us = models.BigIntegerField(null=True)
    cpu_total_us = models.BigIntegerField(null=True)

    objects = HostSnapshots.as_manager()

    class Meta:
        db_table = "host_snapshots"

    def __str__(self) -> str:
        return f"the host at {self.ts}"
