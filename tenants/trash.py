"""Folders of deleted tenants: kept for ``TRASH_DAYS``, then purged."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from tenants.models import Tenant
from tenants.runtimes import runtime_for
from tenants.states import Status
from zcplatform.lib import clock


def purge_old() -> int:
    """Purge what has lain in the trash long enough; returns how many folders went."""
    before = clock.now() - timedelta(days=settings.TRASH_DAYS)
    old = Tenant.objects.filter(status=Status.DELETED, deleted_at__lt=before).select_related("node")
    gone = 0
    for tenant in old.iterator(chunk_size=200):
        if tenant.trash.exists():
            runtime_for(tenant.node).folders.purge(tenant.trash)
            gone += 1
    return gone
