"""Accounts and roles, for super-admins."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest
from ninja import Query, Router, Status

from accounts import services, stepup
from accounts.access import require_super_admin
from accounts.api.schemas import RoleChange, RoleIn, RoleOut, UserChange, UserIn, UserOut, UserQuery
from accounts.auth import actor_of
from accounts.models import Role, User
from accounts.permissions import ROLES
from accounts.writes import idempotent
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page

router = Router(tags=["administration"])
ORDERS = {"email": "email", "created_at": "created_at"}


@router.get("/users", response=Page[UserOut], summary="List accounts", openapi_extra=about())
def list_users(request: HttpRequest, query: Query[UserQuery]) -> Any:
    """Sorted by `email` or `created_at`; filtered by part of address or name and by what an account is."""
    require_super_admin(actor_of(request), "platform.view")
    rows = User.objects.all()
    if query.search:
        rows = rows.filter(Q(email__icontains=query.search) | Q(name__icontains=query.search))
    for name in ("is_active", "is_superuser"):
        if getattr(query, name) is not None:
            rows = rows.filter(**{name: getattr(query, name)})
    return paginate(rows, query, orders=ORDERS, default="email")


@router.post(
    "/users",
    response={201: UserOut},
    summary="Make an account",
    openapi_extra=about(
        body={"email": "dana@example.com", "name": "Dana"}, types={409: "email_taken", 422: "invalid_email"}
    ),
)
@idempotent
def create_user(request: HttpRequest, payload: UserIn) -> Any:
    """Its owner logs in by a code sent to the address. Nothing is mailed now."""
    actor = actor_of(request)
    require_super_admin(actor)
    if payload.is_superuser:
        stepup.require(request, "account.changed")
    made = services.create_user(payload.email, actor=actor, name=payload.name, is_superuser=payload.is_superuser)
    return Status(201, made)


@router.get("/users/{user_id}", response=UserOut, summary="One account", openapi_extra=about(404))
def get_user(request: HttpRequest, user_id: UUID) -> Any:
    """By its id."""
    require_super_admin(actor_of(request), "platform.view")
    return _user(user_id)


@router.patch(
    "/users/{user_id}",
    response=UserOut,
    summary="Change an account",
    openapi_extra=about(404, body={"is_active": False}, types={403: "step_up_required", 409: "last_super_admin"}),
)
@idempotent
def change_user(request: HttpRequest, user_id: UUID, payload: UserChange) -> Any:
    """Made inactive, or super-admin or not, an account is out everywhere with its next request: sessions, tokens and
    keys end. The last active super-admin stays one."""
    actor = actor_of(request)
    require_super_admin(actor)
    changes = payload.dict(exclude_none=True)
    if services.VOIDING & set(changes):
        stepup.require(request, "account.changed")
    return services.update_user(_user(user_id), actor=actor, **changes)


@router.delete(
    "/users/{user_id}",
    response={204: None},
    summary="Close an account",
    openapi_extra=about(404, types={403: "step_up_required", 409: "last_super_admin"}),
)
@idempotent
def close_user(request: HttpRequest, user_id: UUID) -> Any:
    """Makes it inactive. The row stays, for the audit and what the account made still name it."""
    actor = actor_of(request)
    require_super_admin(actor)
    stepup.require(request, "account.changed")
    services.update_user(_user(user_id), actor=actor, is_active=False)
    return Status(204, None)


@router.get("/roles", response=list[RoleOut], summary="List roles", openapi_extra=about())
def list_roles(request: HttpRequest) -> Any:
    """The built-in four, then the custom ones by name."""
    require_super_admin(actor_of(request), "platform.view")
    built_in = [_role(name, name.capitalize(), abilities, True) for name, abilities in ROLES.items()]
    return built_in + [_shown(row) for row in Role.objects.order_by("name")]


@router.post(
    "/roles",
    response={201: RoleOut},
    summary="Make a custom role",
    openapi_extra=about(
        body={"name": "support", "label": "Support", "abilities": ["tenant.view", "logs.read"]},
        types={403: "step_up_required", 409: "role_taken", 422: "role_reserved, invalid_ability"},
    ),
)
@idempotent
def create_role(request: HttpRequest, payload: RoleIn) -> Any:
    """Composed of abilities; those that set and lift holds are the platform's alone."""
    actor = actor_of(request)
    require_super_admin(actor)
    stepup.require(request, "account.changed")
    return Status(201, _shown(services.save_role(Role(**payload.dict()), actor=actor)))


@router.patch(
    "/roles/{name}",
    response=RoleOut,
    summary="Change a custom role",
    openapi_extra=about(
        404, body={"abilities": ["tenant.view"]}, types={403: "step_up_required", 422: "invalid_ability"}
    ),
)
@idempotent
def change_role(request: HttpRequest, name: str, payload: RoleChange) -> Any:
    """Members who have it may do what it says from their next request on (in another process within 2 seconds)."""
    actor = actor_of(request)
    require_super_admin(actor)
    stepup.require(request, "account.changed")
    row = _custom(name)
    for field, value in payload.dict(exclude_none=True).items():
        setattr(row, field, value)
    return _shown(services.save_role(row, actor=actor))


@router.delete(
    "/roles/{name}",
    response={204: None},
    summary="Delete a custom role",
    openapi_extra=about(404, types={403: "step_up_required"}),
)
@idempotent
def delete_role(request: HttpRequest, name: str) -> Any:
    """Members who have it may do nothing from then on."""
    actor = actor_of(request)
    require_super_admin(actor)
    stepup.require(request, "account.changed")
    services.delete_role(_custom(name), actor=actor)
    return Status(204, None)


def _user(user_id: UUID) -> User:
    user = User.objects.filter(public_id=user_id).first()
    if user is None:
        raise NotFound()
    return user


def _custom(name: str) -> Role:
    row = Role.objects.filter(name=name[:41]).first()
    if row is None:
        raise NotFound()
    return row


def _shown(row: Role) -> dict[str, Any]:
    return _role(row.name, row.label, row.abilities, False)


def _role(name: str, label: str, abilities: Any, built_in: bool) -> dict[str, Any]:
    return {"name": name, "label": label, "abilities": sorted(abilities), "built_in": built_in}
