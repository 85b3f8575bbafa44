"""Alerts and silences."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from accounts.auth import actor_of
from accounts.writes import idempotent
from monitoring.alerting import services
from monitoring.alerting.api import lookup
from monitoring.alerting.api.schemas import (
    AlertOut,
    AlertQuery,
    ScopeQuery,
    SilenceIn,
    SilenceOut,
    alert_out,
    silence_out,
)
from monitoring.alerting.models import Alert, Silence
from zcplatform.lib import clock
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page

router = Router(tags=["alerts"])
ROWS = Alert.objects.select_related("tenant", "rule")
SILENCES = Silence.objects.select_related("tenant", "rule")


@router.get("", response=Page[AlertOut], summary="Alerts", openapi_extra=about(404))
def list_alerts(request: HttpRequest, page: Query[AlertQuery]) -> Any:
    """Those of what you look after, newest first; ended ones are kept for 90 days. Sorted by `since`."""
    rows = lookup.rows_of(actor_of(request), ROWS, page.tenant)
    rows = rows.filter(state=page.state) if page.state else rows
    found = paginate(rows, page, orders={"since": "since"}, default="-since")
    return {**found, "items": [alert_out(row) for row in found["items"]]}


@router.get("/{uuid:alert_id}", response=AlertOut, summary="One alert", openapi_extra=about(404))
def get_alert(request: HttpRequest, alert_id: UUID) -> Any:
    """Open or ended."""
    return alert_out(lookup.one(actor_of(request), ROWS, alert_id))


@router.post(
    "/{uuid:alert_id}/ack",
    response=AlertOut,
    summary="Acknowledge an alert",
    openapi_extra=about(404, types={409: "alert_resolved"}),
)
@idempotent
def acknowledge(request: HttpRequest, alert_id: UUID) -> Any:
    """Stops the repeats; its end is still told. A manager's word holds for the tenant's notifiers only."""
    actor = actor_of(request)
    return alert_out(services.acknowledge(actor=actor, alert=lookup.one(actor, ROWS, alert_id)))


@router.get("/silences", response=Page[SilenceOut], summary="Silences", openapi_extra=about(404))
def list_silences(request: HttpRequest, page: Query[ScopeQuery]) -> Any:
    """Those that hold now. Sorted by `until`."""
    rows = lookup.rows_of(actor_of(request), SILENCES, page.tenant).filter(until__gt=clock.now())
    found = paginate(rows, page, orders={"until": "until"}, default="until")
    return {**found, "items": [silence_out(row) for row in found["items"]]}


@router.post(
    "/silences",
    response={201: SilenceOut},
    summary="Silence alerts",
    openapi_extra=about(404, body={"until": "2026-12-01T06:00:00Z", "note": "Maintenance"}),
)
@idempotent
def silence(request: HttpRequest, payload: SilenceIn) -> Any:
    """Nothing new and no repeats until then; ends are still told, and what still fires afterwards is told then."""
    actor = actor_of(request)
    if payload.until.tzinfo is None:
        raise InvalidField("A time with its zone is expected, such as 2026-12-01T06:00:00Z.", field="until")
    row = services.silence(
        actor=actor,
        until=payload.until,
        rule=lookup.rule_for(actor, payload.rule),
        tenant=lookup.tenant_of(actor, payload.tenant),
        note=payload.note,
    )
    return Status(201, silence_out(row))


@router.delete("/silences/{uuid:silence_id}", response={204: None}, summary="Lift a silence", openapi_extra=about(404))
@idempotent
def unsilence(request: HttpRequest, silence_id: UUID) -> Any:
    """What still fires is told at the next look."""
    actor = actor_of(request)
    services.unsilence(actor=actor, silence=lookup.one(actor, SILENCES, silence_id))
    return Status(204, None)
