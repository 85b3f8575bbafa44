"""Outcomes and durations of runs and steps, summed over their rows.

A run that is over and the steps of it change no more, so what is settled is read once by each process and kept as
sums; only what came later is read at each scrape. Rows that are let go leave their sums behind in one row
(``RunTotals``), so that no counter ever goes down. All processes sum the same rows and therefore agree.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Min, Q
from django.db.models.functions import Now

from monitoring.models import RunTotals
from tenants.models import Run, StepRecord
from tenants.states import ACTIVE_RUN
from zcplatform.lib import clock

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0)
TRIES = 3
SETTLED_AFTER = timedelta(minutes=10)
"""A run's number is taken before its row can be seen, so what is younger may still get an older neighbour."""


@dataclass
class Histogram:
    """``counts`` holds one more than the buckets: what took longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0

    def add(self, started: datetime | None, finished: datetime | None) -> None:
        """Count one duration; a clock that was put back in between makes it zero."""
        if started is None or finished is None:
            return
        took = max((finished - started).total_seconds(), 0.0)
        self.counts[bisect_left(BUCKETS_S, took)] += 1
        self.seconds += took

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: cumulative, the last one without an end."""
        total, found = 0, []
        for edge, count in zip([*map(str, BUCKETS_S), "+Inf"], self.counts, strict=True):
            total += count
            found.append((edge, float(total)))
        return found


@dataclass
class Totals:
    """``outcomes`` by kind and status; durations of runs by kind, from request to end, and of steps by name."""

    outcomes: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    runs: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    steps: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))

    def as_json(self) -> dict[str, Any]:
        kinds = {"runs": self.runs, "steps": self.steps}
        histograms = {kind: {name: asdict(h) for name, h in found.items()} for kind, found in kinds.items()}
        outcomes = [[*key, count] for key, count in sorted(self.outcomes.items())]
        return {"buckets": list(BUCKETS_S), "outcomes": outcomes, **histograms}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Totals:
        """Of other buckets only the outcomes: durations that were sorted otherwise can't be sorted again."""
        totals = cls()
        totals.outcomes.update({(kind, status): count for kind, status, count in saved.get("outcomes", [])})
        if saved.get("buckets") == list(BUCKETS_S):
            for kind, found in (("runs", totals.runs), ("steps", totals.steps)):
                found.update({name: Histogram(**h) for name, h in saved[kind].items()})
        return totals


class Ledger:
    """The sums of this process. ``folded`` is how many times rows had gone when they were begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled, self._until, self._folded = Totals(), 0, 0

    def totals(self) -> Totals:
        """Over every run that is over, whether its row is still there or not."""
        for _ in range(TRIES):
            with self._lock:
                self._settle()
                found, until, folded = deepcopy(self._settled), self._until, self._folded
            _add(found, Q(pk__gt=until))
            if _kept()[0] == folded:  # else rows have gone meanwhile, counted or not
                break
        return found

    def _settle(self) -> None:
        newest = Run.objects.aggregate(pk=Max("pk"))["pk"] or 0
        folded, sums = _kept()
        if newest < self._until or folded != self._folded:  # a database that was restored, or rows that went
            self._settled, self._until, self._folded = Totals.from_json(sums), 0, folded
        open_ones = Q(status__in=ACTIVE_RUN) | Q(lease_until__gt=Now()) | Q(created_at__gt=clock.now() - SETTLED_AFTER)
        first = Run.objects.filter(open_ones, pk__gt=self._until).aggregate(pk=Min("pk"))["pk"]
        edge = newest if first is None else first - 1
        if edge > self._until:
            _add(self._settled, Q(pk__gt=self._until, pk__lte=edge))
            self._until = edge


def keep_sums(runs: list[int]) -> None:
    """Add what these runs (their keys) and their steps come to, to what stays when their rows go. Inside the
    transaction in which they go, and by one at a time."""
    if not runs:
        return
    row, _ = RunTotals.objects.get_or_create(pk=1)
    totals = Totals.from_json(row.sums)
    _add(totals, Q(pk__in=runs))
    row.sums, row.number = totals.as_json(), row.number + 1
    row.save()


def _kept() -> tuple[int, dict[str, Any]]:
    """How many times rows went, and their sums."""
    return RunTotals.objects.values_list("number", "sums").first() or (0, {})


def _add(totals: Totals, which: Q) -> None:
    runs = Run.objects.filter(which).exclude(status__in=ACTIVE_RUN)
    rows: Iterable[tuple[str, str, datetime, datetime | None]]
    rows = runs.values_list("kind", "status", "created_at", "finished_at")
    for kind, status, created, finished in rows.iterator(chunk_size=2_000):
        totals.outcomes[kind, status] += 1
        totals.runs[kind].add(created, finished)
    steps = StepRecord.objects.filter(run__in=runs.values("pk")).order_by()
    for name, started, finished in steps.values_list("name", "started_at", "finished_at").iterator(chunk_size=2_000):
        totals.steps[name].add(started, finished)
