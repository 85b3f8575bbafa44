"""Rules and the metrics that they can be about."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from accounts.auth import actor_of
from accounts.writes import idempotent
from monitoring.alerting import services
from monitoring.alerting.api import lookup
from monitoring.alerting.api.schemas import MetricOut, RuleChange, RuleIn, RuleOut, ScopeQuery, rule_out
from monitoring.alerting.metrics import known
from monitoring.alerting.models import AlertRule
from zcplatform.lib.apidocs import about
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page

router = Router(tags=["alerts"])
ORDERS = {"name": "name", "created_at": "created_at"}
ROWS = AlertRule.objects.select_related("tenant")
EXAMPLE = {"name": "Memory runs out", "metric": "tenant_memory_pct", "threshold": 90, "hold_s": 900}


@router.get("/metrics", response=list[MetricOut], summary="What rules can be about", openapi_extra=about())
def list_metrics(request: HttpRequest) -> Any:
    """The same for everybody. A tenant's own rules take metrics with the scope `tenant`."""
    return known()


@router.get("/rules", response=Page[RuleOut], summary="Alert rules", openapi_extra=about(404))
def list_rules(request: HttpRequest, page: Query[ScopeQuery]) -> Any:
    """Those you may change, and those of the platform that tell your tenants. Sorted by `name` or `created_at`."""
    found = paginate(lookup.rules_of(actor_of(request), page.tenant), page, orders=ORDERS, default="name")
    return {**found, "items": [rule_out(row) for row in found["items"]]}


@router.post(
    "/rules",
    response={201: RuleOut},
    summary="Make an alert rule",
    openapi_extra=about(404, body=EXAMPLE, types={409: "too_many_rules", 422: "invalid_field, unknown_metric"}),
)
@idempotent
def create_rule(request: HttpRequest, payload: RuleIn) -> Any:
    """It is looked at every minute from now on."""
    actor = actor_of(request)
    values = payload.dict(exclude={"tenant"}, exclude_none=True)
    rule = services.create_rule(actor=actor, tenant=lookup.tenant_of(actor, payload.tenant), values=values)
    return Status(201, rule_out(rule))


@router.get("/rules/{uuid:rule_id}", response=RuleOut, summary="One alert rule", openapi_extra=about(404))
def get_rule(request: HttpRequest, rule_id: UUID) -> Any:
    """One of those that the list shows you."""
    return rule_out(lookup.rule(actor_of(request), rule_id))


@router.patch(
    "/rules/{uuid:rule_id}",
    response=RuleOut,
    summary="Change an alert rule",
    openapi_extra=about(404, body={"threshold": 95}, types={422: "invalid_field, unknown_metric"}),
)
@idempotent
def update_rule(request: HttpRequest, rule_id: UUID, payload: RuleChange) -> Any:
    """A changed condition ends the rule's open alerts. A default rule that was changed stays as you made it."""
    actor = actor_of(request)
    changes = payload.dict(exclude_unset=True)
    return rule_out(services.update_rule(actor=actor, rule=lookup.one(actor, ROWS, rule_id), changes=changes))


@router.delete(
    "/rules/{uuid:rule_id}",
    response={204: None},
    summary="Delete an alert rule",
    openapi_extra=about(404, types={409: "default_rule"}),
)
@idempotent
def delete_rule(request: HttpRequest, rule_id: UUID) -> Any:
    """Its alerts end; they and their messages stay to be read. A default rule is disabled instead."""
    actor = actor_of(request)
    services.delete_rule(actor=actor, rule=lookup.one(actor, ROWS, rule_id))
    return Status(204, None)
