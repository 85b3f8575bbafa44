"""The metric families. Names and units are listed in docs/metrics.md; a test compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial

from django.db.models import Count, Q
from django.db.models.functions import Now
from django_q.models import OrmQ
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from accounts import mail
from monitoring import heartbeats
from monitoring.alerting.models import Alert, Delivery
from monitoring.exposition.ledger import Histogram, Ledger
from monitoring.models import Heartbeat, HostSnapshot, Sweep
from tenants import quotas
from tenants.models import Node, Run, Tenant
from tenants.records import JobResult
from tenants.states import ACTIVE_RUN, Health, Status
from zcplatform.lib.contained import contained

Samples = Iterable[tuple[tuple[str, ...], float | int | None]]


class RowsCollector(Collector):
    """Everything that follows from rows, in a number of queries that does not grow with the tenants."""

    def __init__(self, ledger: Ledger, version: str) -> None:
        self.ledger, self.version = ledger, version

    def collect(self) -> Iterator[Metric]:
        """The families, as prometheus-client asks for them."""
        yield InfoMetricFamily("zcplatform_build", "The platform's version.", {"version": self.version})
        for part in (_fleet, _usage, partial(_runs, self.ledger), _sweeps, _workers, _host, _jobs, _alerting):
            # What can't be told of one thing is a gap there, and the rest is told.
            nothing: list[Metric] = []
            yield from contained(partial(_all, part), nothing, what="metrics are missing", part=str(part))


def _all(part: Callable[[], Iterator[Metric]]) -> list[Metric]:
    return list(part())


def _fleet() -> Iterator[Metric]:
    alive = Tenant.objects.alive().order_by()
    by_status = dict(alive.values_list("status").annotate(Count("pk")))
    running = alive.filter(status=Status.RUNNING)
    by_health = dict(running.values_list("health").annotate(Count("pk")))
    statuses = [((s.value,), by_status.get(s, 0)) for s in Status if s != Status.DELETED]
    healths = [((h.value,), by_health.get(h, 0)) for h in Health]
    yield _gauge("tenants", "Tenants that are not deleted, by status.", ["status"], statuses)
    yield _gauge("running_tenants", "Running tenants, by health.", ["health"], healths)
    nodes = list(Node.objects.annotate(taken=Count("tenants", filter=Q(tenants__slot__isnull=False))).order_by("name"))
    yield _gauge("node_slots", "Slots of a node.", ["node"], [((n.name,), n.capacity) for n in nodes])
    yield _gauge(
        "node_slots_used", "Slots of a node that tenants hold.", ["node"], [((n.name,), n.taken) for n in nodes]
    )


def _usage() -> Iterator[Metric]:
    found = quotas.of_fleet()
    for period, when in (("today", "the UTC day"), ("this_month", "the UTC month")):
        samples = [((name,), value) for name, value in found[period].items()]
        yield _gauge(f"usage_{period}", f"Used in {when}, by all tenants.", ["measure"], samples)


def _runs(ledger: Ledger) -> Iterator[Metric]:
    totals = ledger.totals()
    active = dict(Run.objects.filter(status__in=ACTIVE_RUN).order_by().values_list("status").annotate(Count("pk")))
    outcomes = sorted(totals.outcomes.items())
    yield _counter("runs", "Runs that ended, by kind and outcome.", ["kind", "status"], outcomes)
    yield _gauge(
        "active_runs", "Runs under way, by status.", ["status"], [((s.value,), active.get(s, 0)) for s in ACTIVE_RUN]
    )
    yield _histogram("run_duration_seconds", "From the request of a run to its end.", "kind", totals.runs)
    yield _histogram("step_duration_seconds", "Duration of a step of a run that ended.", "step", totals.steps)


def _sweeps() -> Iterator[Metric]:
    rows = list(Sweep.objects.order_by("name"))

    def gauge(name: str, text: str, values: Iterable[float | int | None]) -> Metric:
        return _gauge(name, text, ["sweep"], [((row.name,), value) for row, value in zip(rows, values, strict=True)])

    yield gauge("sweep_last_duration_seconds", "Duration of a sweep's last turn.", [_s(r.duration_ms) for r in rows])
    yield gauge("sweep_last_lag_seconds", "By how much a sweep's last turn began late.", [_s(r.lag_ms) for r in rows])
    yield gauge("sweep_last_items", "What a sweep's last turn looked at.", [r.items for r in rows])
    yield gauge("sweep_last_failures", "What failed in a sweep's last turn.", [r.failures for r in rows])
    ended = [_at(r.finished_at) for r in rows]
    yield gauge("sweep_last_end_timestamp_seconds", "When a sweep's last turn ended.", ended)
    turns, overruns = [((r.name,), r.epoch) for r in rows], [((r.name,), r.overruns) for r in rows]
    yield _counter("sweep_turns", "Turns of a sweep.", ["sweep"], turns)
    yield _counter("sweep_overruns", "Turns that found the one before still at work.", ["sweep"], overruns)


def _workers() -> Iterator[Metric]:
    queued = dict(OrmQ.objects.order_by().values_list("key").annotate(Count("pk")))
    beats = Heartbeat.objects.filter(name__in=heartbeats.CLUSTERS).annotate(now=Now()).order_by("name")
    ages = [((b.name,), max((b.now - b.beat_at).total_seconds(), 0.0)) for b in beats]
    depth = [((name,), queued.get(name, 0)) for name in heartbeats.CLUSTERS]
    yield _gauge(
        "mail_oldest_waiting_seconds", "Age of the oldest mail that waits.", [], [((), mail.queue_age_s() or 0)]
    )
    yield _gauge("queue_tasks", "Tasks in a queue.", ["cluster"], depth)
    yield _gauge("worker_heartbeat_age_seconds", "Age of a worker cluster's last sign of life.", ["cluster"], ages)


def _host() -> Iterator[Metric]:
    row = HostSnapshot.objects.newest()
    if row is None:
        return
    cpu = None if row.cpu_mpct is None else row.cpu_mpct / 100_000
    for name, text, value in (
        ("host_cpu_busy_ratio", "How busy the host's cores are, of 1.", cpu),
        ("host_memory_bytes", "The host's memory.", row.mem_total),
        ("host_memory_used_bytes", "The host's memory in use.", row.mem_bytes),
        ("host_disk_bytes", "The fullest of the platform's disks.", row.disk_total),
        ("host_disk_used_bytes", "What is used of that disk.", row.disk_bytes),
        ("host_sample_timestamp_seconds", "When the host was looked at last.", row.ts),
    ):
        yield _gauge(name, text, [], [((), value)])


def _jobs() -> Iterator[Metric]:
    names = JobResult.objects.order_by("name").values_list("name", flat=True).distinct()
    last = [row for name in names if (row := JobResult.objects.filter(name=name).order_by("-at", "-pk").first())]
    good = [JobResult.objects.filter(name=row.name, ok=True).order_by("-at").first() for row in last]
    yield _gauge("job_last_ok", "1 when a job's last turn ended well.", ["name"], [((r.name,), r.ok) for r in last])
    ended = [((r.name,), _at(r.at)) for r in last]
    yield _gauge("job_last_end_timestamp_seconds", "When a job's last turn ended.", ["name"], ended)
    succeeded = [((r.name,), _at(r.at)) for r in good if r]
    yield _gauge("job_last_success_timestamp_seconds", "When a job last ended well.", ["name"], succeeded)


def _alerting() -> Iterator[Metric]:
    opened = Alert.objects.exclude(state="resolved").order_by().values_list("state", "severity").annotate(Count("pk"))
    alerts = [((state, severity), count) for state, severity, count in opened]
    yield _gauge("alerts", "Open alerts of the platform's own rules.", ["state", "severity"], alerts)
    states = dict(Delivery.objects.order_by().values_list("state").annotate(Count("pk")))
    messages = [((state.value,), states.get(state, 0)) for state in Delivery.State]
    yield _gauge("alert_messages", "Messages of the last 90 days, by what became of them.", ["state"], messages)


def _gauge(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(f"zcplatform_{name}", text, labels=labels), samples)


def _counter(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    return _filled(CounterMetricFamily(f"zcplatform_{name}", text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Samples) -> Metric:
    """What is not known has no sample: a gap, not a zero."""
    for labels, value in samples:
        if value is not None:
            family.add_metric(list(labels), float(value))
    return family


def _histogram(name: str, text: str, label: str, rows: dict[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"zcplatform_{name}", text, labels=[label])
    for key, histogram in sorted(rows.items()):
        family.add_metric([key], buckets=histogram.buckets(), sum_value=histogram.seconds)
    return family


def _s(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
