"""The routes of monitoring: the fleet for super-admins, one tenant for its members."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router

from accounts.access import require_super_admin
from accounts.auth import actor_of
from audit.models import AuditEntry
from monitoring import charts, queries
from monitoring.schemas import (
    AuditOut,
    AuditQuery,
    DashboardOut,
    FleetResources,
    FleetUsage,
    HealthOut,
    MetricsOut,
    ResourceChart,
    ResourceQuery,
    UsageOut,
    UsageQuery,
)
from tenants import quotas
from tenants.access import deny, require
from tenants.models import Tenant
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page, PageQuery

fleet = Router(tags=["monitoring"])
tenant_router = Router(tags=["monitoring"])
BY_SLUG = {"slug": "slug", "created_at": "created_at"}


@fleet.get("/dashboard", response=DashboardOut, summary="The fleet in figures", openapi_extra=about())
def dashboard(request: HttpRequest) -> Any:
    """Tenants by status and health, people, channels, capacity, the host, and how the sweeps keep up."""
    require_super_admin(actor_of(request), "platform.view")
    return queries.dashboard()


@fleet.get("/health", response=list[HealthOut], summary="Every tenant's health", openapi_extra=about())
def health(request: HttpRequest) -> Any:
    """A bare array of all tenants, for `jq '.[] | select(.status == "error")'`."""
    require_super_admin(actor_of(request), "platform.view")
    return queries.fleet_health()


@fleet.get("/resources", response=FleetResources, summary="What the tenants use now", openapi_extra=about())
def resources(request: HttpRequest, page: Query[PageQuery]) -> Any:
    """The newest sample of each tenant, page by page, and the sums over all. Sorted by `slug` or `created_at`."""
    require_super_admin(actor_of(request), "platform.view")
    current = queries.latest()
    found = paginate(Tenant.objects.alive(), page, orders=BY_SLUG, default="slug")
    items = [
        {"id": t.public_id, "slug": t.slug, "status": t.status, "resources": current.get(t.pk)} for t in found["items"]
    ]
    return {**found, "items": items, "totals": queries.totals(current.values()), "host": queries.host()}


@fleet.get("/usage", response=FleetUsage, summary="Usage against the plans", openapi_extra=about())
def usage(request: HttpRequest, page: Query[PageQuery]) -> Any:
    """Each tenant's messages of today, tokens of this month and disk, page by page, and the sums over all, those that
    were deleted meanwhile included. Sorted by `slug` or `created_at`."""
    require_super_admin(actor_of(request), "platform.view")
    rows = Tenant.objects.alive().select_related("plan")
    found = paginate(rows, page, orders=BY_SLUG, default="slug")
    used = queries.quota_rows(found["items"])
    items = [{"id": t.public_id, "slug": t.slug, "plan": t.plan.slug, "quotas": used[t.pk]} for t in found["items"]]
    return {**found, "items": items, "totals": quotas.of_fleet()}


@fleet.get("/audit", response=Page[AuditOut], summary="The audit trail", openapi_extra=about())
def audit(request: HttpRequest, page: Query[AuditQuery]) -> Any:
    """Everything that was done and refused, the newest first."""
    require_super_admin(actor_of(request), "platform.view")
    named = {"action": page.action, "outcome": page.outcome, "tenant_id": page.tenant and str(page.tenant)}
    rows = AuditEntry.objects.filter(**{name: value for name, value in named.items() if value})
    found = paginate(rows, page, orders={"id": "id"}, default="-id", tie="id")
    return {**found, "items": [_entry(row) for row in found["items"]]}


@tenant_router.get(
    "/{tenant_id}/resources", response=ResourceChart, summary="What a tenant used", openapi_extra=about(404)
)
def tenant_resources(request: HttpRequest, tenant_id: UUID, query: Query[ResourceQuery]) -> Any:
    """At most 300 points at even distances; what was not measured is null."""
    return charts.resources(_tenant(request, tenant_id), query.range)


@tenant_router.get(
    "/{tenant_id}/usage", response=UsageOut, summary="A tenant's messages and tokens", openapi_extra=about(404)
)
def tenant_usage(request: HttpRequest, tenant_id: UUID, query: Query[UsageQuery]) -> Any:
    """What the plan gives and what is used of it, and the sums by hours or days; what was not counted is null."""
    tenant = _tenant(request, tenant_id)
    return {"quotas": queries.quota_rows([tenant])[tenant.pk], **charts.usage(tenant, query.range)}


@tenant_router.get(
    "/{tenant_id}/metrics", response=MetricsOut, summary="A tenant at this moment", openapi_extra=about(404)
)
def tenant_metrics(request: HttpRequest, tenant_id: UUID) -> Any:
    """Its health, its newest sample, and what its agent counted since it was started."""
    return queries.now_of(_tenant(request, tenant_id))


def _tenant(request: HttpRequest, public_id: UUID) -> Tenant:
    """NotFound, in the same words and audited alike, for a tenant that does not exist and for somebody else's."""
    actor = actor_of(request)
    tenant = Tenant.objects.visible_to(actor).select_related("plan").filter(public_id=public_id).first()
    if tenant is None:
        deny(NotFound(), actor=actor, ability="metrics.view", tenant=Tenant.objects.filter(public_id=public_id).first())
    require(actor, "metrics.view", tenant)
    return tenant


def _entry(row: AuditEntry) -> dict[str, Any]:
    fields = [name for name in AuditOut.model_fields if name != "detail"]
    return {**{name: getattr(row, name) for name in fields}, "detail": json.loads(row.detail_json)}
