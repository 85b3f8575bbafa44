"""Who belongs to a tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import Field

from accounts import stepup
from accounts.auth import actor_of
from accounts.permissions import role_exists
from accounts.writes import idempotent
from tenants import invitations, membership
from tenants.api.common import find
from tenants.api.invitations import InvitationOut
from tenants.models import Member, Tenant
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import InvalidField, NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["members"])
ROLE = Field(min_length=1, max_length=40, examples=["contributor"], description="A built-in role or a custom one.")
REFUSALS = {403: "forbidden, role_too_high, plan_limit, step_up_required", 409: "last_owner", 422: "unknown_role"}


class MemberOut(Out):
    """A user with a role in a tenant."""

    id: UUID = Field(alias="public_id")
    email: str
    name: str
    role: str
    active: bool = Field(description="Whether the account is active.")
    joined_at: datetime

    @staticmethod
    def resolve_email(member: Member) -> str:
        return member.user.email

    @staticmethod
    def resolve_name(member: Member) -> str:
        return member.user.name

    @staticmethod
    def resolve_active(member: Member) -> bool:
        return member.user.is_active


class MemberIn(In):
    """Who joins, and as what."""

    email: Line = Field(max_length=254, examples=["dana@example.com"])
    role: Line = ROLE


class MemberPatch(In):
    """The new role."""

    role: Line = ROLE


def check_role(role: str) -> str:
    """InvalidField ``unknown_role`` for one that does not exist."""
    if not role_exists(role):
        raise InvalidField(f"There is no role “{role}”.", type="unknown_role", field="role")
    return role


@router.get("/{tenant_id}/members", response=Page[MemberOut], summary="A tenant's members", openapi_extra=about(404))
def list_members(request: HttpRequest, tenant_id: UUID, query: Query[PageQuery]) -> Any:
    """Sorted by `joined_at`."""
    rows = _rows(find(request, tenant_id, "members.view"))
    return paginate(rows, query, orders={"joined_at": "joined_at"}, default="joined_at")


@router.post(
    "/{tenant_id}/members",
    response={202: InvitationOut},
    summary="Add a member",
    openapi_extra=about(
        404,
        body={"email": "dana@example.com", "role": "contributor"},
        types={**REFUSALS, 409: "already_member, tenant_deleted", 422: "invalid_email, unknown_role"},
    ),
)
@idempotent
def add_member(request: HttpRequest, tenant_id: UUID, payload: MemberIn) -> Any:
    """Mails an invitation, whether or not the address has an account: whoever accepts it is a member. The same as
    `POST tenants/{id}/invitations`, and the same answer for any address. Adding anybody as more than a viewer asks for
    your second factor, if you have one."""
    tenant, role = find(request, tenant_id, "members.update"), check_role(payload.role)
    if effect := stepup.of_role(None, role):
        stepup.require(request, effect)
    made = invitations.invite(actor=actor_of(request), tenant=tenant, email=payload.email, role=role)
    return Status(202, made)


@router.patch(
    "/{tenant_id}/members/{member_id}",
    response=MemberOut,
    summary="Change a member's role",
    openapi_extra=about(404, body={"role": "manager"}, types=REFUSALS),
)
@idempotent
def change_member(request: HttpRequest, tenant_id: UUID, member_id: UUID, payload: MemberPatch) -> Any:
    """Nobody grants or takes what they lack. Raising a role, and taking owner from
    somebody, asks for your second factor, if you have one."""
    tenant = find(request, tenant_id, "members.update")
    member, role = _member(tenant, member_id), check_role(payload.role)
    if effect := stepup.of_role(member.role, role):
        stepup.require(request, effect)
    return membership.set_role(actor=actor_of(request), tenant=tenant, user=member.user, role=role)


@router.delete(
    "/{tenant_id}/members/{member_id}",
    response={204: None},
    summary="Remove a member",
    openapi_extra=about(404, types={403: "forbidden, role_too_high, step_up_required", 409: "last_owner"}),
)
@idempotent
def remove_member(request: HttpRequest, tenant_id: UUID, member_id: UUID) -> Any:
    """Everybody may remove themselves, but the last owner, who has to hand over first. Open streams end in
    seconds. Removing an owner asks for your second factor, if you have one."""
    actor = actor_of(request)
    tenant = find(request, tenant_id, "members.view")
    member = _member(tenant, member_id)
    if effect := stepup.of_role(member.role, None):
        stepup.require(request, effect)
    membership.remove(actor=actor, member=member)
    return Status(204, None)


def _rows(tenant: Tenant) -> QuerySet[Member]:
    return Member.objects.filter(tenant=tenant).select_related("user")


def _member(tenant: Tenant, member_id: UUID) -> Member:
    member = _rows(tenant).filter(public_id=member_id).first()
    if member is None:
        raise NotFound()
    member.tenant = tenant
    return member
