"""One's own account: who am I, API keys, sessions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from accounts import api_keys, logins, stepup
from accounts.access import require_reach
from accounts.api.schemas import ApiKeyIn, ApiKeyMade, ApiKeyOut, LoginOut, UserOut
from accounts.auth import KEY, actor_of, caller_of
from accounts.models import ApiKey, Login
from accounts.writes import idempotent
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page, PageQuery

router = Router(tags=["own account"])
ORDERS = {"created_at": "created_at"}


@router.get("", response=UserOut, summary="Your account", openapi_extra=about())
def me(request: HttpRequest) -> Any:
    """The account that the credential in use belongs to."""
    require_reach(actor_of(request), "account.view")
    return caller_of(request).user


@router.get("/api-keys", response=Page[ApiKeyOut], summary="Your API keys", openapi_extra=about())
def list_keys(request: HttpRequest, page: Query[PageQuery]) -> Any:
    """The keys that work now; their values are not kept anywhere. Sorted by `created_at`."""
    require_reach(actor_of(request), "account.view")
    return paginate(api_keys.alive(caller_of(request).user), page, orders=ORDERS, default="-created_at")


@router.post(
    "/api-keys",
    response={201: ApiKeyMade},
    summary="Make an API key",
    openapi_extra=about(
        body={"name": "deployments", "scopes": ["write"], "expires_in_days": 90},
        types={403: "step_up_required, scope_too_narrow", 409: "too_many_keys", 422: "invalid_field"},
    ),
)
@idempotent
def make_key(request: HttpRequest, payload: ApiKeyIn) -> Any:
    """The value is in this answer and nowhere else. Scopes: `read` looks, `write` runs tenants as a manager does,
    `admin` is everything you may do. A key ends with its term, when it is revoked, and when your account becomes
    something else (made super-admin or not, its second factor enrolled or removed)."""
    actor, user = actor_of(request), caller_of(request).user
    require_reach(actor, "account.manage")
    stepup.require(request, "bearer.made")
    key, value = api_keys.create(
        user, actor=actor, name=payload.name, scopes=payload.scopes, days=payload.expires_in_days
    )
    return Status(201, {**ApiKeyOut.from_orm(key).dict(by_alias=True), "key": value.reveal()})


@router.delete("/api-keys/{key_id}", response={204: None}, summary="Revoke an API key", openapi_extra=about(404))
@idempotent
def revoke_key(request: HttpRequest, key_id: UUID) -> Any:
    """It is refused from its next request on."""
    actor, user = actor_of(request), caller_of(request).user
    require_reach(actor, "account.manage")
    key = ApiKey.objects.filter(user=user, public_id=key_id).first()
    if key is None:
        raise NotFound()
    api_keys.revoke(key, actor=actor)
    return Status(204, None)


@router.get("/sessions", response=Page[LoginOut], summary="Your open sessions", openapi_extra=about())
def list_sessions(request: HttpRequest, page: Query[PageQuery]) -> Any:
    """Browsers and API clients that are logged in as you. Sorted by `created_at`."""
    caller = caller_of(request)
    require_reach(caller.actor, "account.view")
    found = paginate(logins.open_ones(caller.user), page, orders=ORDERS, default="-created_at")
    return {**found, "items": [_login(row, caller.credential) for row in found["items"]]}


@router.delete("/sessions", response={204: None}, summary="End all other sessions", openapi_extra=about())
@idempotent
def end_others(request: HttpRequest) -> Any:
    """All but the one that this request came by. API keys stay; revoke them one by one."""
    caller = caller_of(request)
    require_reach(caller.actor, "account.manage")
    logins.revoke_others(caller.user, actor=caller.actor, but=None if caller.kind == KEY else caller.credential)
    return Status(204, None)


@router.delete("/sessions/{session_id}", response={204: None}, summary="End a session", openapi_extra=about(404))
@idempotent
def end_session(request: HttpRequest, session_id: UUID) -> Any:
    """Its next request is refused; its open event streams end within seconds."""
    caller = caller_of(request)
    require_reach(caller.actor, "account.manage")
    row = Login.objects.filter(user=caller.user, public_id=session_id).select_related("user").first()
    if row is None:
        raise NotFound()
    logins.revoke(row, actor=caller.actor)
    return Status(204, None)


def _login(row: Login, current: str) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in ("public_id", "ip", "user_agent", "created_at", "last_used_at")}
    kind = "browser" if row.session_key else "api"
    return {**shown, "expires_at": row.expires_at, "kind": kind, "current": str(row.public_id) == current}
