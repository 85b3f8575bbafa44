"""Signs of life of the worker clusters, and of tasks that hang in them, on the database's clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from monitoring.models import Heartbeat

CLUSTERS = ("runs", "sweeps")
STALE_S = 30.0
LATE = "late:"


def beat(cluster: str) -> None:
    """Note that ``cluster`` is alive."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=cluster, beat_at=Now())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["beat_at"],
    )


def ask(cluster: str) -> None:
    """Put a beat into the cluster's queue: it proves the whole way from the queue to a worker and the database."""
    async_task("monitoring.tasks.beat", cluster, cluster=cluster, save=False)


def is_waiting(cluster: str) -> bool:
    """True while the cluster's queue holds something that no pusher has taken up."""
    return OrmQ.objects.filter(key=cluster, lock__lt=timezone.now()).exists()


def note_late(functions: Iterable[str]) -> None:
    """Note that these tasks have begun and do not end; to be said again for as long as that is so."""
    for function in functions:
        beat(LATE + function.rpartition(".")[2][: 40 - len(LATE)])


def late() -> list[str]:
    """The tasks that hang, by the last part of their functions' names."""
    recent = Heartbeat.objects.filter(name__startswith=LATE, beat_at__gte=Now() - timedelta(seconds=STALE_S))
    return sorted(name.removeprefix(LATE) for name in recent.values_list("name", flat=True))


def silent(clusters: Iterable[str] = CLUSTERS, *, older_than_s: float = STALE_S) -> list[str]:
    """Those of ``clusters`` that never beat, or not within the last ``older_than_s`` seconds."""
    recent = Heartbeat.objects.filter(beat_at__gte=Now() - timedelta(seconds=older_than_s))
    alive = set(recent.values_list("name", flat=True))
    return [name for name in clusters if name not in alive]
