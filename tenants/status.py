"""Writing to a tenant's row: every change of status goes through here."""

from __future__ import annotations

from typing import Any

from tenants.events import emit
from tenants.models import Tenant
from tenants.states import ALLOWED, Reason, Status
from zcplatform.lib import clock
from zcplatform.lib.errors import Conflict

DETAIL_CAP = 4_000
TOLD = ("desired", "health")
"""Columns whose changes the outbox tells, as ``set_status`` does of the status: the uptime is computed from them."""


def set_status(tenant: Tenant, status: Status, reason: Reason | str = Reason.NONE, detail: str = "") -> None:
    """Change the status, or its reason. Conflict ``wrong_state`` for a change that the table does not allow.

    Must be called inside a transaction; tells the outbox.
    """
    before = Status(tenant.status)
    if status != before and status not in ALLOWED[before]:
        raise Conflict(f"A tenant that is {before} can't become {status}.", type="wrong_state", status=before)
    if (status, reason, detail) == (before, tenant.reason, tenant.detail):
        return
    save(tenant, status=status, reason=reason, detail=detail[:DETAIL_CAP])
    if status != before:
        emit(tenant, "tenant.status", {"from": before, "to": status, "reason": str(reason)})


def save(tenant: Tenant, **fields: Any) -> None:
    """Write exactly these columns: a row read some time ago must not put others back. Tells the outbox of a change of
    ``desired`` or ``health``, and must then be called inside a transaction."""
    before = {name: getattr(tenant, name) for name in TOLD if name in fields}
    Tenant.objects.filter(pk=tenant.pk).update(**fields, updated_at=clock.now())
    for name, value in fields.items():
        setattr(tenant, name, value)
    for name, was in before.items():
        if was != fields[name]:
            emit(tenant, f"tenant.{name}", {"from": str(was), "to": str(fields[name])})
