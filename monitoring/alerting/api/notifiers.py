"""Notifiers, and the log of what was sent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from accounts.auth import actor_of
from accounts.writes import idempotent
from monitoring.alerting import contacts
from monitoring.alerting.api import lookup
from monitoring.alerting.api.schemas import (
    DeliveryOut,
    NotifierChange,
    NotifierIn,
    NotifierMade,
    NotifierOut,
    ScopeQuery,
    delivery_out,
    notifier_out,
)
from monitoring.alerting.models import Notifier
from zcplatform.lib.apidocs import about
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page, PageQuery

router = Router(tags=["alerts"])
ORDERS = {"name": "name", "created_at": "created_at"}
ROWS = Notifier.objects.select_related("tenant", "secret")
EXAMPLE = {"kind": "webhook", "name": "On call", "config": {"url": "https://hooks.example.com/zcplatform"}}


@router.get("", response=Page[NotifierOut], summary="Notifiers", openapi_extra=about(404))
def list_notifiers(request: HttpRequest, page: Query[ScopeQuery]) -> Any:
    """Those you look after. Sorted by `name` or `created_at`."""
    rows = lookup.rows_of(actor_of(request), ROWS, page.tenant)
    found = paginate(rows, page, orders=ORDERS, default="name")
    return {**found, "items": [notifier_out(row) for row in found["items"]]}


@router.post(
    "",
    response={201: NotifierMade},
    summary="Make a notifier",
    openapi_extra=about(
        404,
        body=EXAMPLE,
        types={409: "too_many_notifiers", 422: "invalid_field, unknown_notifier, endpoint_refused"},
    ),
)
@idempotent
def create_notifier(request: HttpRequest, payload: NotifierIn) -> Any:
    """A webhook without a `secret` of yours gets one, shown in this answer alone. Send a test next."""
    actor, given = actor_of(request), payload.dict(exclude={"tenant"})
    made = contacts.create_notifier(actor=actor, tenant=lookup.tenant_of(actor, payload.tenant), **given)
    secret = made.secret.reveal() if made.secret else None
    return Status(201, {**notifier_out(made.notifier), "secret": secret})


@router.get("/{uuid:notifier_id}", response=NotifierOut, summary="One notifier", openapi_extra=about(404))
def get_notifier(request: HttpRequest, notifier_id: UUID) -> Any:
    """Without its secret."""
    return notifier_out(lookup.one(actor_of(request), ROWS, notifier_id))


@router.patch(
    "/{uuid:notifier_id}",
    response=NotifierOut,
    summary="Change a notifier",
    openapi_extra=about(404, body={"enabled": False}, types={422: "invalid_field, endpoint_refused"}),
)
@idempotent
def update_notifier(request: HttpRequest, notifier_id: UUID, payload: NotifierChange) -> Any:
    """What you leave out stays, the secret too; another address hides it, and the notifier is off until it is entered
    again. A disabled one keeps what waits for it."""
    actor = actor_of(request)
    changes = payload.dict(exclude_none=True)
    row = contacts.update_notifier(actor=actor, notifier=lookup.one(actor, ROWS, notifier_id), changes=changes)
    return notifier_out(row)


@router.delete("/{uuid:notifier_id}", response={204: None}, summary="Delete a notifier", openapi_extra=about(404))
@idempotent
def delete_notifier(request: HttpRequest, notifier_id: UUID) -> Any:
    """With its secret and its log."""
    actor = actor_of(request)
    contacts.delete_notifier(actor=actor, notifier=lookup.one(actor, ROWS, notifier_id))
    return Status(204, None)


@router.post("/{uuid:notifier_id}/test", response=DeliveryOut, summary="Send a test message", openapi_extra=about(404))
def test_notifier(request: HttpRequest, notifier_id: UUID) -> Any:
    """Sent at once, in up to 10 s; `state` and `error` say what came of it. At most ten a minute."""
    actor = actor_of(request)
    return delivery_out(contacts.test_notifier(actor=actor, notifier=lookup.one(actor, ROWS, notifier_id)))


@router.get(
    "/{uuid:notifier_id}/deliveries", response=Page[DeliveryOut], summary="What was sent", openapi_extra=about(404)
)
def list_deliveries(request: HttpRequest, notifier_id: UUID, page: Query[PageQuery]) -> Any:
    """The messages to this notifier, kept for 90 days. Sorted by `created_at`."""
    notifier = lookup.one(actor_of(request), ROWS, notifier_id)
    rows = notifier.deliveries.select_related("notifier", "alert")
    found = paginate(rows, page, orders={"created_at": "created_at"}, default="-created_at")
    return {**found, "items": [delivery_out(row) for row in found["items"]]}
