"""Bringing a tenant up and down, and what else its owner does to it as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import Field

from accounts import stepup
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import membership, services
from tenants.api.common import accepted, again, changed, find
from tenants.api.schemas import RUN, ChangeOut, RunOut, TenantOut, Yes
from tenants.models import Member, Run
from tenants.states import HoldKind
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.schemas import Id, In, Line

router = Router(tags=["tenants"])
BUSY = "run_active, held, wrong_state, tenant_deleting, tenant_deleted"


class HoldIn(In):
    """Why a tenant must not run."""

    hold: HoldKind = HoldKind.OPERATOR
    note: Line = Field("", max_length=200)


class LiftIn(In):
    """Which hold to lift."""

    hold: HoldKind = HoldKind.OPERATOR


class ResizeIn(In):
    """The plan to move to."""

    plan: Line = Field(min_length=1, max_length=40)


class TransferIn(In):
    """Who becomes owner."""

    member: Id = Field(description="The id of a member of this tenant.")
    revoke_tokens: Yes = Field(False, description="Whether every access token made before ends.")


class RotatedOut(ChangeOut):
    """The new access token, shown this once."""

    access_token: str


def _asked(**more: Any) -> dict[str, Any]:
    return about(404, answer=RUN, status=202, types={409: BUSY}, **more)


def _ask(
    request: HttpRequest, response: HttpResponse, tenant_id: UUID, service: Callable[..., Run], ability: str
) -> Any:
    tenant = find(request, tenant_id, ability)
    return accepted(response, service(actor=actor_of(request), tenant=tenant))


@router.post("/{tenant_id}/deploy", response={202: RunOut}, summary="Deploy", openapi_extra=_asked())
@idempotent
def deploy(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """Bring the tenant up. The same run while one is under way."""
    return _ask(request, response, tenant_id, services.deploy, "tenant.deploy")


@router.post("/{tenant_id}/start", response={202: RunOut}, summary="Start", openapi_extra=_asked())
@idempotent
def start(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """Start a stopped tenant; of one that runs, make sure that it really does."""
    return _ask(request, response, tenant_id, services.start, "tenant.start")


@router.post("/{tenant_id}/stop", response={202: RunOut}, summary="Stop", openapi_extra=_asked())
@idempotent
def stop(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """Stop the tenant and leave it stopped. Takes the place of a run that is under way."""
    return _ask(request, response, tenant_id, services.stop, "tenant.stop")


@router.post("/{tenant_id}/restart", response={202: RunOut}, summary="Restart", openapi_extra=_asked())
@idempotent
def restart(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """Stop and start the agent of a tenant that is meant to run."""
    return _ask(request, response, tenant_id, services.restart, "tenant.restart")


@router.post(
    "/{tenant_id}/suspend",
    response={202: RunOut},
    summary="Suspend",
    openapi_extra=_asked(body={"hold": "operator", "note": ""}),
)
@idempotent
def suspend(request: HttpRequest, tenant_id: UUID, payload: HoldIn, response: HttpResponse) -> Any:
    """Set a hold and take the tenant down. Super-admins only."""
    tenant = find(request, tenant_id, "tenant.suspend")
    run = services.suspend(actor=actor_of(request), tenant=tenant, hold=payload.hold, note=payload.note)
    return accepted(response, run)


@router.post(
    "/{tenant_id}/reactivate",
    response={202: RunOut},
    summary="Reactivate",
    openapi_extra=_asked(body={"hold": "operator"}),
)
@idempotent
def reactivate(request: HttpRequest, tenant_id: UUID, payload: LiftIn, response: HttpResponse) -> Any:
    """Lift a hold; with the last one lifted the tenant returns to what it was. Super-admins only."""
    tenant = find(request, tenant_id, "tenant.reactivate")
    return accepted(response, services.reactivate(actor=actor_of(request), tenant=tenant, hold=payload.hold))


@router.post(
    "/{tenant_id}/resize",
    response={200: ChangeOut, 202: ChangeOut},
    summary="Move to another plan",
    openapi_extra=about(
        404,
        body={"plan": "pro"},
        types={
            403: "forbidden, plan_limit, plan_not_offered, signup_limit",
            409: f"{BUSY}, held",
            422: "unknown_plan, plan_too_small",
        },
    ),
)
@idempotent
def resize(request: HttpRequest, tenant_id: UUID, payload: ResizeIn, response: HttpResponse) -> Any:
    """Of a tenant that is down the new limits take effect at its next start. Under the operator's hold or one for
    billing only a super-admin may."""
    tenant = find(request, tenant_id, "tenant.resize")
    return changed(response, services.resize(actor=actor_of(request), tenant=tenant, plan=payload.plan))


@router.post(
    "/{tenant_id}/rotate-secrets",
    response={200: RotatedOut, 202: RotatedOut},
    summary="Rotate the tenant's secrets",
    openapi_extra=about(404, types={403: "forbidden, step_up_required", 409: BUSY}),
)
@idempotent
def rotate_secrets(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """The agent gets a new bearer; every access token is revoked, and a new one is in this answer and nowhere else."""
    tenant = find(request, tenant_id, "secrets.rotate")
    stepup.require(request, "secrets.new")
    rotated = services.rotate_secrets(actor=actor_of(request), tenant=tenant)
    return changed(response, rotated.run, access_token=rotated.access_token.reveal())


@router.post(
    "/{tenant_id}/transfer",
    response=TenantOut,
    summary="Hand the tenant to another owner",
    openapi_extra=about(
        404,
        body={"member": "8a7f1c9e-4f0d-4a53-8f5e-0a3f3f1f8d10"},
        types={403: "forbidden, step_up_required, role_too_high", 409: "already_owner, user_inactive"},
    ),
)
@idempotent
def transfer(request: HttpRequest, tenant_id: UUID, payload: TransferIn) -> Any:
    """The member becomes owner, and you manager. A super-admin who is no owner replaces all owners."""
    tenant = find(request, tenant_id, "tenant.transfer")
    stepup.require(request, "tenant.elsewhere")
    to = _member(tenant.pk, payload.member)
    membership.transfer(actor=actor_of(request), tenant=tenant, to=to, revoke_tokens=payload.revoke_tokens)
    return again(request, tenant)


def _member(tenant_pk: int, public_id: str) -> Member:
    try:
        found = Member.objects.filter(tenant=tenant_pk, public_id=UUID(public_id)).first()
    except ValueError:
        found = None
    if found is None:
        raise InvalidField("There is no such member in this tenant.", type="unknown_member", field="member")
    return found
