"""A tenant's uptime."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from accounts.auth import actor_of
from monitoring import uptime
from monitoring.alerting.api import lookup
from tenants.access import require
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.schemas import Out

router = Router(tags=["monitoring"])


class Share(Out):
    """`share` is `up_s` of `due_s`; null when the tenant was not meant to run at all."""

    due_s: int = Field(description="Seconds in which it was meant to run and not held.")
    up_s: int = Field(description="Of those, the seconds in which it ran and answered.")
    share: float | None = Field(examples=[0.9991])


class UptimeOut(Out):
    """Over three spans that end now, or since the tenant was made."""

    day: Share = Field(alias="24h")
    week: Share = Field(alias="7d")
    month: Share = Field(alias="30d")


@router.get("/{uuid:tenant_id}/uptime", response=UptimeOut, by_alias=True, summary="Uptime", openapi_extra=about(404))
def get_uptime(request: HttpRequest, tenant_id: UUID) -> Any:
    """Time in which nobody can tell (the container engine did not answer) counts neither way."""
    actor = actor_of(request)
    tenant = lookup.tenant_of(actor, str(tenant_id))
    if tenant is None:
        raise NotFound()
    require(actor, "metrics.view", tenant)
    return {name: {"due_s": u.due_s, "up_s": u.up_s, "share": u.share} for name, u in _rounded(uptime.of(tenant))}


def _rounded(found: dict[str, uptime.Uptime]) -> list[tuple[str, uptime.Uptime]]:
    return [(name, uptime.Uptime(round(u.due_s), round(u.up_s))) for name, u in found.items()]
