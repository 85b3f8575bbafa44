"""The outbox: what happened, in order, written in the transaction of the change itself."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tenants.models import Event, Tenant
from zcplatform.lib.redact import censor


def emit(tenant: Tenant, type: str, data: dict[str, Any] | None = None) -> Event:
    """Add one event. TransactionManagementError outside a transaction."""
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("An event belongs into the transaction of its change.")
    return Event.objects.create(tenant=tenant, type=type, data=censor(data or {}))
