"""Plans: for everybody to look at, for super-admins to change."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import Field

from accounts.access import require_super_admin
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import capacity
from tenants.api.common import given
from tenants.api.schemas import Number, Whole
from tenants.models import Plan
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["plans"])
admin_router = Router(tags=["plans"])
LIMITS = {
    "max_channels": 3,
    "max_members": 5,
    "max_messages_per_day": 1_000,
    "max_tokens_per_month": 2_000_000,
    "cpu_limit": 0.5,
    "memory_limit_mb": 512,
    "pids_limit": 64,
    "disk_limit_mb": 2_048,
}


class PlanOut(Out):
    """Limits as data: MB, cores, per day and per calendar month."""

    slug: str
    name: str
    max_channels: int
    max_members: int
    max_messages_per_day: int
    max_tokens_per_month: int
    cpu_limit: float
    memory_limit_mb: int
    pids_limit: int
    disk_limit_mb: int


class PlanPatch(In):
    """What to change of a plan; tenants get it at their next start."""

    name: Line | None = Field(None, min_length=1, max_length=80)
    max_channels: Whole | None = None
    max_members: Whole | None = None
    max_messages_per_day: Whole | None = None
    max_tokens_per_month: Whole | None = None
    cpu_limit: Number | None = Field(None, description="In hundredths of a core.", examples=[0.5])
    memory_limit_mb: Whole | None = None
    pids_limit: Whole | None = None
    disk_limit_mb: Whole | None = None


class PlanIn(PlanPatch):
    """A new plan; every limit is needed."""

    slug: Line = Field(min_length=1, max_length=40, examples=["starter"])
    name: Line = Field(min_length=1, max_length=80)


@router.get("", response=Page[PlanOut], summary="Plans", openapi_extra=about())
def list_plans(request: HttpRequest, query: Query[PageQuery]) -> Any:
    """What there is to choose from. Sorted by `slug`."""
    return paginate(Plan.objects.all(), query, orders={"slug": "slug"}, default="slug", tie="slug")


@admin_router.post(
    "",
    response={201: PlanOut},
    summary="Add a plan",
    openapi_extra=about(body={"slug": "starter", "name": "Starter", **LIMITS}, types={409: "slug_taken"}),
)
@idempotent
def create_plan(request: HttpRequest, payload: PlanIn) -> Any:
    """Super-admins only."""
    actor = actor_of(request)
    require_super_admin(actor)
    return Status(201, capacity.create_plan(actor=actor, slug=payload.slug, name=payload.name, limits=_limits(payload)))


@admin_router.patch(
    "/{slug}", response=PlanOut, summary="Change a plan", openapi_extra=about(404, body={"max_channels": 5})
)
@idempotent
def update_plan(request: HttpRequest, slug: Line, payload: PlanPatch) -> Any:
    """Super-admins only. Its tenants get the new limits at their next start."""
    actor = actor_of(request)
    require_super_admin(actor)
    plan = Plan.objects.filter(slug=slug[:40]).first()
    if plan is None:
        raise NotFound()
    return capacity.update_plan(actor=actor, plan=plan, name=payload.name, limits=_limits(payload))


def _limits(payload: PlanPatch) -> dict[str, Any]:
    limits = {name: value for name, value in given(payload).items() if name in capacity.PLAN_LIMITS}
    if "cpu_limit" in limits:
        limits["cpu_limit"] = Decimal(str(limits["cpu_limit"]))
    return limits
