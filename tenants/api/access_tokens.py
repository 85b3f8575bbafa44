"""The bearers of a tenant's chat door."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import AwareDatetime, Field

from accounts import stepup
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import access_tokens, tokens
from tenants.api.common import find
from tenants.models import AccessToken
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["access tokens"])


class AccessTokenOut(Out):
    """An access token without its value."""

    id: UUID = Field(alias="public_id")
    name: str
    prefix: str = Field(description="How the value begins.", examples=["zct_mC3x9aQ0"])
    paired: bool = Field(description="Whether it was exchanged for a pairing code.")
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = Field(None, description="Exact to a minute.")


class AccessTokenMade(AccessTokenOut):
    """A new access token. `access_token` is shown this once."""

    access_token: str


class AccessTokenIn(In):
    """What the token is for, and how long it lives."""

    name: Line = Field(min_length=1, max_length=80)
    expires_at: AwareDatetime | None = Field(None, description="With its offset from UTC; null: never.")


@router.get(
    "/{tenant_id}/access-tokens",
    response=Page[AccessTokenOut],
    summary="A tenant's access tokens",
    openapi_extra=about(404),
)
def list_tokens(request: HttpRequest, tenant_id: UUID, query: Query[PageQuery]) -> Any:
    """Those that work now. Sorted by `created_at`."""
    rows = tokens.live().filter(tenant=find(request, tenant_id, "tokens.manage"))
    return paginate(rows, query, orders={"created_at": "created_at"}, default="-created_at")


@router.post(
    "/{tenant_id}/access-tokens",
    response={201: AccessTokenMade},
    summary="Make an access token",
    openapi_extra=about(
        404, body={"name": "website"}, types={403: "forbidden, plan_limit, step_up_required", 409: "tenant_deleted"}
    ),
)
@idempotent
def make_token(request: HttpRequest, tenant_id: UUID, payload: AccessTokenIn) -> Any:
    """For `POST /v1/chat/completions` at the tenant's address. The value is in this answer and nowhere else.
    Asks for your second factor, if you have one."""
    tenant = find(request, tenant_id, "tokens.manage")
    stepup.require(request, "bearer.made")
    token, value = access_tokens.issue(
        actor=actor_of(request), tenant=tenant, name=payload.name, expires_at=payload.expires_at
    )
    return Status(201, {**AccessTokenOut.from_orm(token).dict(by_alias=True), "access_token": value.reveal()})


@router.delete(
    "/{tenant_id}/access-tokens/{token_id}",
    response={204: None},
    summary="Revoke an access token",
    openapi_extra=about(404),
)
@idempotent
def revoke_token(request: HttpRequest, tenant_id: UUID, token_id: UUID) -> Any:
    """It is refused from its next request on; one that is revoked already stays so."""
    tenant = find(request, tenant_id, "tokens.manage")
    token = AccessToken.objects.filter(tenant=tenant, public_id=token_id).first()
    if token is None:
        raise NotFound()
    token.tenant = tenant
    access_tokens.revoke(actor=actor_of(request), token=token)
    return Status(204, None)
