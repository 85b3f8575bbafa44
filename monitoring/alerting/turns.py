"""The turns of the alerting sweeps: one at a time, under the lease of a ``Sweep`` row that tells how it went."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable

from monitoring.models import Sweep
from zcplatform.lib import claims, clock

Fence = Callable[[], bool]


def take(name: str, work: Callable[[Fence], tuple[int, int]], *, seconds: float) -> bool:
    """Do one turn of the sweep ``name`` unless another one is at work; ``work`` gets a fence and returns how many
    items it did and how many failed. False when it was not done."""
    row, _ = Sweep.objects.get_or_create(name=name)
    rows, owner = Sweep.objects.all(), f"{os.getpid()}:{uuid.uuid4().hex[:8]}"
    epoch = claims.claim(rows, pk=row.pk, owner=owner, seconds=seconds, started_at=clock.now())
    if epoch is None:
        return False
    began, items, failures, error = time.monotonic(), 0, 0, ""
    try:
        items, failures = work(lambda: claims.holds(rows, pk=row.pk, epoch=epoch))
    except BaseException as broken:
        error = f"{type(broken).__name__}: {broken}"[:500]
        raise
    finally:
        took = int((time.monotonic() - began) * 1000)
        done = {"finished_at": clock.now(), "duration_ms": took, "items": items, "failures": failures, "error": error}
        claims.release(rows, pk=row.pk, epoch=epoch, **done)
    return True
