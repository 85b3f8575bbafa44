"""The one way into a run: what is to change in the world becomes a row here, at most one active per tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import F

from audit.services import Target, record
from tenants import queue
from tenants.access import require
from tenants.events import emit
from tenants.models import Run, Tenant
from tenants.states import ACTIVE_RUN, Desired, RunKind, RunStatus, Status
from tenants.status import set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict

# A stop, a suspension or a deletion does not wait for a deploy that may be stuck: it takes its place.
OVERTAKING = frozenset({RunKind.STOP, RunKind.SUSPEND, RunKind.DEPROVISION})

Prepare = Callable[[Tenant], None]
"""Changes the locked row to what is asked for, or raises."""


def change(
    tenant: Tenant,
    kind: RunKind,
    action: str,
    *,
    actor: Actor,
    prepare: Prepare,
    ability: str | None = None,
    **params: Any,
) -> Run | None:
    """Change rows of the tenant, and apply them by a run when the tenant is meant to run.

    ``action`` is the audit's word, ``ability`` the matrix's where they differ. Nothing is changed when another
    run is active (Conflict ``run_active``).
    """
    require(actor, ability or action, tenant)
    with transaction.atomic():
        row = _lock(tenant)
        _refuse_deleted(row)
        active = _active(row)
        if active is not None:
            raise _busy(active)
        prepare(row)
        audit(row, action, actor, **params)
        emit(row, action, params)
        if row.desired != Desired.RUNNING:
            return None
        set_status(row, Status.DEPLOYING)
        return _insert_run(row, kind, actor, params)


def ask(tenant: Tenant, kind: RunKind, action: str, *, actor: Actor, prepare: Prepare, **params: Any) -> Run:
    """Ask for a run. The same run while one for the same thing is active; Conflict ``run_active`` for another."""
    require(actor, action, tenant)
    with transaction.atomic():
        row = _lock(tenant)
        active = _active(row)
        if active is not None and (active.kind, _wishes(active)) == (kind, params):
            return active
        run = accept(row, kind, actor=actor, prepare=prepare, params=params)
        audit(row, action, actor, run=str(run.public_id), **params)
        return run


def accept(row: Tenant, kind: RunKind, *, actor: Actor, prepare: Prepare, params: dict[str, Any] | None = None) -> Run:
    if kind != RunKind.DEPROVISION or row.status == Status.DELETED:
        _refuse_deleted(row)
    active = _active(row)
    if active is not None:
        if kind not in OVERTAKING:
            raise _busy(active)
        _cancel(active, actor)
    prepare(row)
    return _insert_run(row, kind, actor, params or {})


def _insert_run(row: Tenant, kind: RunKind, actor: Actor, params: dict[str, Any]) -> Run:
    run = Run.objects.create(
        tenant=row,
        kind=kind,
        params={**params, "to": row.desired},
        actor=actor.label,
        request_id=actor.request_id,
    )
    emit(row, "run.queued", {"run": str(run.public_id), "kind": kind})
    # A queue that does not hear of it loses nothing: the ticker finds the run by its row.
    transaction.on_commit(lambda: queue.enqueue(run.pk), robust=True)
    return run


def _cancel(run: Run, actor: Actor) -> None:
    """Fence the run's worker out. Its lease stays until it notices: the next run waits for that."""
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.CANCELLED, epoch=F("epoch") + 1, finished_at=clock.now(), next_attempt_at=None
    )
    emit(run.tenant, "run.cancelled", {"run": str(run.public_id), "kind": run.kind})
    audit(run.tenant, "run.cancel", actor, run=str(run.public_id), kind=run.kind)


def _lock(tenant: Tenant) -> Tenant:
    return Tenant.objects.select_for_update().get(pk=tenant.pk)


def _active(row: Tenant) -> Run | None:
    return row.runs.filter(status__in=ACTIVE_RUN).first()


def _wishes(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.params.items() if name != "to"}


def _busy(run: Run) -> Conflict:
    return Conflict(
        f"A {run.kind} is under way; wait for it or stop it.", type="run_active", run=str(run.public_id), kind=run.kind
    )


def _refuse_deleted(row: Tenant) -> None:
    if row.status == Status.DELETED:
        raise Conflict("This tenant is deleted.", type="tenant_deleted")
    if row.desired == Desired.DELETED:
        raise Conflict("This tenant is being deleted.", type="tenant_deleting")


def audit(tenant: Tenant, action: str, actor: Actor, *, outcome: str = "ok", **detail: Any) -> None:
    """One audit row about this tenant; last in its transaction."""
    target = Target("tenant", str(tenant.public_id), tenant.slug)
    record(action, actor=actor, target=target, tenant=str(tenant.public_id), detail=detail, outcome=outcome)
