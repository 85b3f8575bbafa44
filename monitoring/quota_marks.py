"""Tells once when a tenant comes to 80, 90 and 100 percent of a quota, and holds one whose disk is full."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from django.db import transaction

from monitoring.models import QuotaMark
from tenants import quotas, services
from tenants.events import emit
from tenants.models import Tenant
from tenants.quotas import Quota
from tenants.states import Desired, HoldKind
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import Conflict

log = logging.getLogger(__name__)

SLACK = 5
"""Percent by which use must fall below a mark before reaching it is news again."""
OF_THE_DISK = "disk: "
MIB = 1_048_576


def tell_all(tenants: Iterable[Tenant]) -> int:
    """Look at the messages and tokens of these tenants; returns how many marks were news."""
    rows = list(tenants)
    known = {(mark.tenant_id, mark.quota): mark for mark in QuotaMark.objects.filter(tenant__in=rows)}
    found = quotas.of_many(rows)
    pairs = [(tenant, quota) for tenant in rows for quota in found[tenant.pk]]
    return sum(
        contained(
            partial(_tell, tenant, quota, known.get((tenant.pk, quota.name))),
            False,
            what="quota can't be told",
            tenant=tenant.slug,
        )
        for tenant, quota in pairs
    )


def _tell(tenant: Tenant, quota: Quota, known: QuotaMark | None) -> bool:
    told = known.mark if known and known.period == quota.period_start else 0
    if quota.mark <= told and not (told and quota.used * 100 < quota.limit * (told - SLACK)):
        return False
    with transaction.atomic():
        QuotaMark.objects.update_or_create(
            tenant=tenant, quota=quota.name, defaults={"period": quota.period_start, "mark": quota.mark}
        )
        if quota.mark > told:
            facts = {"quota": quota.name, "percent": quota.mark, "used": quota.used, "limit": quota.limit}
            emit(tenant, "quota.reached", facts)
    return quota.mark > told


def disk_quota(tenant: Tenant, used: int) -> Quota:
    """``used`` bytes of what the plan gives."""
    return Quota("disk", used, tenant.plan.disk_limit_mb * MIB, period_start=0, resets_at=0)


def enforce_disk(tenant: Tenant, used: int) -> None:
    """Tell of the marks; hold the tenant when its disk is full, and lift our hold when it is not any more, be it
    that something was deleted or that the plan changed."""
    quota = disk_quota(tenant, used)
    _tell(tenant, quota, QuotaMark.objects.filter(tenant=tenant, quota="disk").first())
    hold = tenant.holds.filter(kind=HoldKind.QUOTA, lifted_at__isnull=True).first()
    ours = hold is not None and hold.set_by == SYSTEM.label and hold.note.startswith(OF_THE_DISK)
    try:
        if quota.used >= quota.limit and hold is None and tenant.desired != Desired.DELETED:
            note = f"{OF_THE_DISK}{used // MIB:,} of {tenant.plan.disk_limit_mb:,} MB"
            services.suspend(actor=SYSTEM, tenant=tenant, hold=HoldKind.QUOTA, note=note)
        elif quota.used < quota.limit and ours:
            services.reactivate(actor=SYSTEM, tenant=tenant, hold=HoldKind.QUOTA)
    except Conflict as error:
        log.info("the disk's hold waits for a run", extra={"tenant": tenant.slug, "type": error.type})
