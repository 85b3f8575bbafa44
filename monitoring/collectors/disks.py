"""The disk sweep: each minute a fifteenth of the folders is measured, those first that were not for the longest.

Who is held for a full disk is measured every time, so that a bigger plan or a cleared folder helps soon.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from django.db.models import F

from monitoring import quota_marks, sweeps
from monitoring.models import ResourceCounter
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Holder
from tenants.states import HoldKind, Status
from zcplatform.lib import clock
from zcplatform.lib.contained import contained

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
    due = list(_due())
    hidden = _hidden(due)
    for tenant in due:
        if time.monotonic() > until:
            break
        done += 1
        failed += not _measure(tenant, turn, hidden.get(tenant.pk, 0))
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
        dear += not contained(partial(_is_cheap, tenant), True, what="node is unknown", tenant=tenant.slug)
        if tenant.pk not in seen and dear <= DEAR_PER_TURN:
            seen.add(tenant.pk)
            yield tenant


def _is_cheap(tenant: Tenant) -> bool:
    return runtime_for(tenant.node).folders.cheap


def _hidden(due: Iterable[Tenant]) -> dict[int, int]:
    """What their agents take where the folder does not show it, by the tenant's key: one look for each node."""
    by_node: dict[Node, list[Tenant]] = defaultdict(list)
    for tenant in due:
        if tenant.uid is not None:
            by_node[tenant.node].append(tenant)
    found: dict[int, int] = {}
    for node, tenants in by_node.items():
        nothing: Mapping[int, int] = {}
        look = partial(_look, node, tenants)
        sizes = contained(look, nothing, what="hidden files can't be measured", node=node.name)
        found |= {tenant.pk: sizes.get(tenant.uid or 0, 0) for tenant in tenants}
    return found


def _look(node: Node, tenants: Iterable[Tenant]) -> Mapping[int, int]:
    return runtime_for(node).hidden([Holder(t.uid or 0, t.folder, t.agent_handle) for t in tenants])


def _measure(tenant: Tenant, turn: sweeps.Turn, hidden: int) -> bool:
    """One folder that can't be measured keeps no other from it; it comes again when its turn does."""
    size = contained(lambda: _size(tenant) + hidden, None, what="folder can't be measured", tenant=tenant.slug)
    at = int(clock.now().timestamp())
    with turn.writing():
        ResourceCounter.objects.update_or_create(tenant=tenant, defaults={"disk_at": at, "disk_bytes": size})
    if size is None:
        return False
    enforce = partial(quota_marks.enforce_disk, tenant, size)
    contained(enforce, None, what="disk can't be enforced", tenant=tenant.slug)
    return True


def _size(tenant: Tenant) -> int:
    return runtime_for(tenant.node).folders.size(tenant.folder)
