"""A run's progress, read from its steps and from the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenants.api.schemas import RunOut, StepOut, steps_of
from tenants.api.streams import Event
from tenants.models import Run

BATCH = 100


def events(run_pk: int, *, after: int = 0) -> Iterator[Event | None]:
    """The events of a run beyond ``after`` and every change of a step; None where nothing is new. Ends with the run."""
    told: dict[str, Any] = {}
    read = 0
    while True:
        run = Run.objects.select_related("tenant").prefetch_related("steps").get(pk=run_pk)
        read = read or max(after, _before(run))
        # The outbox is read after the run: of a run that has ended, every event is there.
        for row in run.tenant.events.filter(pk__gt=read).order_by("pk")[:BATCH]:
            read = row.pk
            if row.data.get("run") == str(run.public_id):
                yield Event(row.type, row.data, row.pk)
        for step in steps_of(run):
            if told.get(step["name"]) != step:
                told[step["name"]] = step
                yield Event("step", StepOut.model_validate(step).model_dump(mode="json"))
        if not run.is_active and not run.tenant.events.filter(pk__gt=read).exists():
            yield Event("end", RunOut.from_orm(run).model_dump(mode="json"))
            return
        yield None


def _before(run: Run) -> int:
    """The sequence number that the run's first event comes after."""
    first = run.tenant.events.filter(created_at__gte=run.created_at).order_by("pk").values_list("pk", flat=True).first()
    return (first or 1) - 1
