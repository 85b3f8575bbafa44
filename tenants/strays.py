"""What runs of tenants and no record of ours tells: looked for in the world, told by doctor, ended by reconcile."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import transaction

from audit.services import Target, record
from tenants.models import Node, Tenant
from tenants.runtimes.base import Runtime, Stray
from tenants.states import Status
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import FaultError

log = logging.getLogger(__name__)
UNSEEN = "agent_unseen"


def look(node: Node, runtime: Runtime, settled: Iterable[Tenant]) -> list[tuple[Stray, Tenant | None]]:
    """Each stray with its tenant's row, or None when there is no such tenant. Those of a tenant with an active run are
    left to the run. Reads only."""
    known = {str(tenant.public_id): tenant for tenant in settled}
    owners = {tenant.uid: public_id for public_id, tenant in known.items() if tenant.uid is not None}
    found = runtime.strays(owners)
    others = {stray.tenant for stray in found if stray.tenant not in known}
    rows = {str(t.public_id): t for t in Tenant.objects.filter(public_id__in=others)}
    gone = {Status.DELETED, Status.DRAFT}
    left_to_others = {public_id for public_id, row in rows.items() if row.status not in gone}
    both = rows | known
    return [(stray, both.get(stray.tenant)) for stray in found if stray.tenant not in left_to_others]


def end(runtime: Runtime, public_id: str) -> None:
    """End what runs unseen of a tenant, with an audit row for each. The uid is read now: a tenant that was deleted
    meanwhile has it no longer. What can't be ended keeps nobody else from being looked after."""
    row = Tenant.objects.filter(public_id=public_id).first()
    try:
        ended = runtime.end_strays(public_id, row.uid if row else None)
    except FaultError as error:
        log.error("what runs unseen does not end", extra={"tenant": public_id, "error": error.message})
        return
    with transaction.atomic():
        for stray in ended:
            target = Target("agent", public_id, row.slug if row else stray.what)
            record(
                "platform.reconcile",
                actor=SYSTEM,
                target=target,
                tenant=public_id,
                detail={"what": UNSEEN, "ended": stray.what},
            )
