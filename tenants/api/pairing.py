"""Pairing codes: what a device exchanges for an access token of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from accounts import stepup
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import pairing
from tenants.api.common import find
from zcplatform.lib.apidocs import about
from zcplatform.lib.schemas import Out

router = Router(tags=["access tokens"])


class PairingOut(Out):
    """A code for one exchange."""

    code: str = Field(examples=["ABCD-EFGH"])
    expires_at: datetime


@router.get(
    "/{tenant_id}/pairing-code",
    response=PairingOut,
    summary="The pairing code",
    openapi_extra=about(404, types={403: "forbidden, step_up_required", 409: "tenant_deleted"}),
)
def get_code(request: HttpRequest, tenant_id: UUID) -> Any:
    """A device sends it as `{"code": …}` with `POST /pair` to the tenant's address and gets an access token, once. It
    is good for five to ten minutes; looking at it changes nothing. Asks for your second factor, if you have one."""
    tenant = find(request, tenant_id, "pairing.manage")
    stepup.require(request, "bearer.made")
    return _shown(pairing.current(actor=actor_of(request), tenant=tenant))


@router.post(
    "/{tenant_id}/reset-pairing",
    response=PairingOut,
    summary="Reset pairing",
    openapi_extra=about(404, types={403: "forbidden, step_up_required", 409: "tenant_deleted"}),
)
@idempotent
def reset(request: HttpRequest, tenant_id: UUID) -> Any:
    """Ends the code of now and every access token that was made by pairing; answers with a new code. Asks
    for your second factor, if you have one."""
    tenant = find(request, tenant_id, "pairing.manage")
    stepup.require(request, "pairing.reset")
    return _shown(pairing.reset(actor=actor_of(request), tenant=tenant))


def _shown(found: pairing.Pairing) -> dict[str, Any]:
    return {"code": found.code.reveal(), "expires_at": found.expires_at}
