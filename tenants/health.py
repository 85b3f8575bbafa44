"""What was observed of running agents, and the end of the attempts to mend one. Acts as the platform."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Exists, OuterRef

from tenants.events import emit
from tenants.models import Event, Run, Tenant
from tenants.runs import audit
from tenants.states import ACTIVE_RUN, Desired, Health, Reason, Status
from tenants.status import save, set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM

BATCH = 500


def left_alone() -> Exists:
    """A condition on tenants: a run is under way, and whatever is observed meanwhile is that run's business."""
    return Exists(Run.objects.filter(tenant=OuterRef("pk"), status__in=ACTIVE_RUN))


def note(found: Mapping[int, Health], why: Mapping[int, str]) -> int:
    """Write down what tenants (by primary key) turned out to be; returns how many changed. Tells the outbox of each.

    Call it in a transaction. A tenant that is meant to be down by now, or has a run, is left as it is.
    """
    changed = 0
    for health in Health:
        keys = sorted(key for key, value in found.items() if value == health)
        for start in range(0, len(keys), BATCH):
            changed += _note(health, keys[start : start + BATCH], why)
    return changed


def _note(health: Health, keys: list[int], why: Mapping[int, str]) -> int:
    rows = Tenant.objects.filter(pk__in=keys, desired=Desired.RUNNING).exclude(left_alone()).exclude(health=health)
    before = dict(rows.values_list("pk", "health"))
    Tenant.objects.filter(pk__in=before).update(health=health, health_at=clock.now())
    Event.objects.bulk_create(
        Event(
            tenant_id=key,
            type="tenant.health",
            data={"from": was, "to": str(health), "why": why.get(key, "")},
        )
        for key, was in before.items()
    )
    return len(before)


def give_up(*, tenant: Tenant, reason: Reason, detail: str) -> bool:
    """The agent runs and yet does not work, and restarts did not mend it: ``error``, without a route, audited.

    Nothing is removed, so that somebody can look. The caller settles the routes. False when the tenant is meant to
    be down meanwhile, or a run is under way.
    """
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        busy = row.runs.filter(status__in=ACTIVE_RUN).exists()
        if busy or row.desired != Desired.RUNNING or row.status != Status.RUNNING:
            return False
        set_status(row, Status.ERROR, reason, detail)
        save(row, routed=False, running_since=None, health=Health.FAILING, health_at=clock.now())
        emit(row, "tenant.failed", {"reason": str(reason)})
        audit(row, "tenant.failed", SYSTEM, reason=str(reason), detail=detail)
    return True
