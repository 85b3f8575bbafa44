"""The disk sweep: each minute a fifteenth of the folders is measured, those first that were not for the longest.

Who is held for a full disk is measured every time, so that a bigger plan or a cleared folder helps soon.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from django.db.models import F

from monitoring import quota_marks, sweeps
from monitoring.models import ResourceCounter
from tenants.models import Tenant
from tenants.runtimes import runtime_for
from tenants.states import HoldKind, Status
from zcplatform.lib import clock
from zcplatform.lib.errors import FaultError

log = logging.getLogger(__name__)

NAME = "disks"
EVERY_S, LEASE_S = 60.0, 180.0
SPREAD = 15
"""Turns in which everybody has had theirs."""
BUDGET_S = 20.0
DEAR_PER_TURN = 5
"""Where a look costs a helper container, so many and no more."""


def sweep(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """One turn; None when another is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run(NAME, every_s=EVERY_S, lease_s=LEASE_S, work=_work, soonest_s=soonest_s)


def _work(turn: sweeps.Turn) -> sweeps.Outcome:
    until, done, failed = time.monotonic() + BUDGET_S, 0, 0
    for tenant in _due():
        if time.monotonic() > until:
            break
        done += 1
        failed += not _measure(tenant, turn)
    return sweeps.Outcome(done, failed)


def _due() -> Iterator[Tenant]:
    """Whose turn it is."""
    rows = Tenant.objects.filter(slot__isnull=False).exclude(status__in=(Status.DELETING, Status.DELETED))
    rows = rows.select_related("node", "plan")
    held = rows.filter(holds__kind=HoldKind.QUOTA, holds__lifted_at__isnull=True)
    share = -(-rows.count() // SPREAD)
    oldest = rows.order_by(F("resource_counter__disk_at").asc(nulls_first=True), "pk")
    seen: set[int] = set()
    dear = 0
    for tenant in [*held, *oldest[:share]]:
        dear += not runtime_for(tenant.node).folders.cheap
        if tenant.pk not in seen and dear <= DEAR_PER_TURN:
            seen.add(tenant.pk)
            yield tenant


def _measure(tenant: Tenant, turn: sweeps.Turn) -> bool:
    """One folder that can't be measured keeps no other from it; it comes again when its turn does."""
    try:
        size: int | None = runtime_for(tenant.node).folders.size(tenant.folder)
    except FaultError as error:
        log.warning("folder can't be measured", extra={"tenant": tenant.slug, "type": error.type})
        size = None
    at = int(clock.now().timestamp())
    with turn.writing():
        ResourceCounter.objects.update_or_create(tenant=tenant, defaults={"disk_at": at, "disk_bytes": size})
    if size is not None:
        quota_marks.enforce_disk(tenant, size)
    return size is not None
