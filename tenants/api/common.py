"""What the routes of a tenant share: finding it, and answering with the run that a change leads to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Status

from accounts.auth import actor_of
from tenants.access import deny, require
from tenants.models import Run, Tenant
from zcplatform.lib.errors import NotFound


def find(request: HttpRequest, tenant_id: UUID, ability: str) -> Tenant:
    """The tenant, for whoever has ``ability`` in it. Forbidden for other members.

    NotFound for everybody else, by the same queries and in the same words whether there is such a tenant or not; the
    attempt is audited.
    """
    actor = actor_of(request)
    tenant = Tenant.objects.visible_to(actor).for_answer(actor).filter(public_id=tenant_id).first()
    if tenant is None:
        unseen = Tenant.objects.filter(public_id=tenant_id).first()
        deny(NotFound(), actor=actor, ability=ability, tenant=unseen)
    require(actor, ability, tenant)
    return tenant


def find_deleted(request: HttpRequest, tenant_id: UUID, ability: str) -> Tenant:
    """The same, with deleted tenants among them."""
    actor = actor_of(request)
    tenant = Tenant.objects.reached_by(actor).filter(public_id=tenant_id).first()
    if tenant is None:
        unseen = Tenant.objects.filter(public_id=tenant_id).first()
        deny(NotFound(), actor=actor, ability=ability, tenant=unseen)
    require(actor, ability, tenant)
    return tenant


def again(request: HttpRequest, tenant: Tenant) -> Tenant:
    """The tenant as it is after the change; one that its actor can't see any more is shown as it was."""
    actor = actor_of(request)
    return Tenant.objects.visible_to(actor).for_answer(actor).filter(pk=tenant.pk).first() or tenant


def accepted(response: HttpResponse, run: Run) -> Any:
    """202 with the run, and where to watch it."""
    response["Location"] = f"/api/runs/{run.public_id}"
    return Status(202, run)


def changed(response: HttpResponse, run: Run | None, **more: Any) -> Any:
    """202 with the run that applies the change, or 200 where nothing runs that it would have to be applied to."""
    if run is not None:
        response["Location"] = f"/api/runs/{run.public_id}"
    return Status(200 if run is None else 202, {"run": run, **more})


def given(payload: Any) -> dict[str, Any]:
    """The fields that were sent and are not null."""
    return {name: value for name, value in payload.dict(exclude_unset=True).items() if value is not None}
