"""Leases by one conditional UPDATE whose row count must be 1, on the database's own clock.

A leased model has ``lease_until`` (null when free), ``lease_owner`` and ``epoch``. Taking a lease raises the
epoch, and every later write of the holder names that epoch: a worker that was frozen and overtaken can't
write, whatever its own clock says.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from django.db.models import F, Model, Q, QuerySet
from django.db.models.functions import Now

M = TypeVar("M", bound=Model)


def claim(rows: QuerySet[M], *, pk: int, owner: str, seconds: float, **also: object) -> int | None:
    """Take the lease of row ``pk`` when it is free or has run out.

    ``rows`` may carry further conditions. ``also`` is written in the same UPDATE.
    Returns the new epoch, or None when somebody else holds it.
    """
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=Now())
    taken = rows.filter(free, pk=pk).update(
        lease_until=Now() + timedelta(seconds=seconds), lease_owner=owner, epoch=F("epoch") + 1, **also
    )
    if taken != 1:
        return None
    # Only the holder of the lease gets here, so nobody raises the epoch between the two statements
    # before the lease has run out; the owner in the filter catches even that.
    return rows.model._default_manager.filter(pk=pk, lease_owner=owner).values_list("epoch", flat=True).first()


def held(rows: QuerySet[M], *, pk: int, epoch: int) -> QuerySet[M]:
    """Row ``pk`` for as long as the lease of this epoch was neither given back nor taken by another. Who writes often
    keeps it: making the query costs more than sending it."""
    return rows.filter(pk=pk, epoch=epoch, lease_until__isnull=False)


def renew(held: QuerySet[M], *, seconds: float) -> bool:
    """Extend a lease that is still ours; False when it was overtaken."""
    return held.update(lease_until=Now() + timedelta(seconds=seconds)) == 1


def holds(held: QuerySet[M]) -> bool:
    """Whether the lease is still ours and has not run out; changes nothing."""
    return held.filter(lease_until__gt=Now()).exists()


def release(held: QuerySet[M], **also: object) -> bool:
    """Give a lease back; False when it was no longer ours, and then nothing is written."""
    return held.update(lease_until=None, **also) == 1
