"""Folders and secrets of deleted tenants: kept for ``TRASH_DAYS``, then purged, once each."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction

from audit.services import Target, record
from tenants import secrets
from tenants.models import Tenant
from tenants.runtimes import runtime_for
from tenants.states import Status
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import ZCError

log = logging.getLogger(__name__)


def purge_old() -> int:
    """Purge what has lain in the trash long enough; returns of how many tenants. A folder that can't be purged is
    told in the audit, left for the next time, and in nobody's way."""
    before = clock.now() - timedelta(days=settings.TRASH_DAYS)
    old = Tenant.objects.filter(status=Status.DELETED, purged_at__isnull=True, deleted_at__lt=before)
    tenants = list(old.select_related("node").order_by("deleted_at"))
    return sum(contained(partial(_purge, t), False, what="folder can't be purged", tenant=t.slug) for t in tenants)


def _purge(tenant: Tenant) -> bool:
    if not _is_still_there(tenant):
        return False
    try:
        runtime_for(tenant.node).folders.purge(tenant.trash)
    except (ZCError, OSError) as error:
        why = error.type if isinstance(error, ZCError) else type(error).__name__
        log.warning("folder can't be purged", extra={"tenant": tenant.slug, "type": why, "error": str(error)})
        with transaction.atomic():
            _record(tenant, outcome="failed", detail={"type": why, "error": str(error)})
        return False
    with transaction.atomic():
        # Purged by two at once is purged once: the one that comes second finds nothing to mark.
        mine = Tenant.objects.filter(pk=tenant.pk, purged_at__isnull=True).update(purged_at=clock.now())
        if mine:
            secrets.remove(tenant, actor=SYSTEM)
            _record(tenant)
    return bool(mine)


def _is_still_there(tenant: Tenant) -> bool:
    """Under the row's lock: whoever brings the tenant back has done so by now, or finds it too old."""
    with transaction.atomic():
        rows = Tenant.objects.select_for_update().filter(pk=tenant.pk, status=Status.DELETED)
        return rows.filter(purged_at__isnull=True).exists()


def _record(tenant: Tenant, *, outcome: str = "ok", detail: dict[str, str] | None = None) -> None:
    public_id = str(tenant.public_id)
    target = Target("tenant", public_id, tenant.slug)
    record("tenant.purge", actor=SYSTEM, target=target, tenant=public_id, outcome=outcome, detail=detail)
