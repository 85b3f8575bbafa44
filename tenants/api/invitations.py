"""Invitations to a tenant, and accepting one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import Field

from accounts import stepup
from accounts.auth import actor_of, caller_of
from accounts.permissions import role_exists
from accounts.writes import idempotent
from tenants import invitations
from tenants.api.common import find
from tenants.models import Invitation
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import InvalidField, NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["members"])
accept_router = Router(tags=["members"])


class InvitationOut(Out):
    """An offer of a role. Its token is in the mail alone."""

    id: UUID = Field(alias="public_id")
    email: str
    role: str
    invited_by: str | None = None
    created_at: datetime
    expires_at: datetime

    @staticmethod
    def resolve_invited_by(invitation: Invitation) -> str | None:
        return invitation.invited_by.email if invitation.invited_by else None


class InvitationIn(In):
    """Whom to invite, and as what."""

    email: Line = Field(max_length=254, examples=["dana@example.com"])
    role: Line = Field(min_length=1, max_length=40, examples=["contributor"])


class AcceptIn(In):
    """The token from the mail."""

    token: Line = Field(min_length=1, max_length=100)


class AcceptedOut(Out):
    """Where you belong now."""

    tenant: UUID
    slug: str
    role: str


@router.get(
    "/{tenant_id}/invitations", response=Page[InvitationOut], summary="Open invitations", openapi_extra=about(404)
)
def list_invitations(request: HttpRequest, tenant_id: UUID, query: Query[PageQuery]) -> Any:
    """Those that can still be accepted. Sorted by `created_at`."""
    rows = invitations.open_ones(find(request, tenant_id, "members.update")).select_related("invited_by")
    return paginate(rows, query, orders={"created_at": "created_at"}, default="-created_at")


@router.post(
    "/{tenant_id}/invitations",
    response={201: InvitationOut},
    summary="Invite somebody",
    openapi_extra=about(
        404,
        body={"email": "dana@example.com", "role": "contributor"},
        types={
            403: "forbidden, role_too_high, plan_limit, step_up_required",
            409: "already_member, tenant_deleted",
            422: "invalid_email, unknown_role",
        },
    ),
)
@idempotent
def invite(request: HttpRequest, tenant_id: UUID, payload: InvitationIn) -> Any:
    """A mail goes out, good for seven days; a former invitation to the same address ends. At most 60 an hour per
    tenant and by one user, five a day to one address. Inviting anybody as more than a viewer asks for your
    second factor, if you have one."""
    tenant = find(request, tenant_id, "members.update")
    if not role_exists(payload.role):
        raise InvalidField(f"There is no role “{payload.role}”.", type="unknown_role", field="role")
    if effect := stepup.of_role(None, payload.role):
        stepup.require(request, effect)
    made = invitations.invite(actor=actor_of(request), tenant=tenant, email=payload.email, role=payload.role)
    return Status(201, made)


@router.delete(
    "/{tenant_id}/invitations/{invitation_id}",
    response={204: None},
    summary="Take an invitation back",
    openapi_extra=about(404, types={403: "forbidden, role_too_high"}),
)
@idempotent
def revoke(request: HttpRequest, tenant_id: UUID, invitation_id: UUID) -> Any:
    """The link in the mail is dead from then on."""
    tenant = find(request, tenant_id, "members.update")
    found = Invitation.objects.filter(tenant=tenant, public_id=invitation_id).first()
    if found is None:
        raise NotFound()
    found.tenant = tenant
    invitations.revoke(actor=actor_of(request), invitation=found)
    return Status(204, None)


@accept_router.post(
    "/accept",
    response=AcceptedOut,
    summary="Accept an invitation",
    openapi_extra=about(
        404,
        body={"token": "zci_example"},
        types={
            403: "not_invited, plan_limit",
            409: "invitation_used, invitation_revoked, invitation_expired, invitation_void, already_member",
        },
    ),
)
@idempotent
def accept(request: HttpRequest, payload: AcceptIn) -> Any:
    """Only the invited address may, once. `token` is the one of the mail, or the invitation's `id`, which the first
    page shows to whoever is logged in with the address. Who has no account yet accepts on the page behind the link."""
    caller = caller_of(request)
    member = invitations.accept(actor=caller.actor, user=caller.user, token=payload.token)
    return {"tenant": member.tenant.public_id, "slug": member.tenant.slug, "role": member.role}
