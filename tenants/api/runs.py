"""Runs: what was asked for, how far it is, and its progress as it happens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from ninja import Header, Query, Router

from accounts.auth import actor_of
from tenants.access import deny, require
from tenants.api import progress, streams
from tenants.api.common import find
from tenants.api.schemas import RUN, RunOut, RunSummary
from tenants.models import Run, Tenant
from tenants.states import RunKind, RunStatus
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Page, PageQuery

router = Router(tags=["runs"])
tenant_router = Router(tags=["runs"])
ORDERS = {"created_at": "created_at"}


class RunQuery(PageQuery):
    """Which runs."""

    status: RunStatus | None = None
    kind: RunKind | None = None


@tenant_router.get("/{tenant_id}/runs", response=Page[RunSummary], summary="A tenant's runs", openapi_extra=about(404))
def list_runs(request: HttpRequest, tenant_id: UUID, query: Query[RunQuery]) -> Any:
    """Newest first. Sorted by `created_at`."""
    rows = find(request, tenant_id, "runs.view").runs.select_related("tenant")
    rows = rows.filter(status=query.status) if query.status else rows
    rows = rows.filter(kind=query.kind) if query.kind else rows
    return paginate(rows, query, orders=ORDERS, default="-created_at")


@router.get("/{run_id}", response=RunOut, summary="A run", openapi_extra=about(404, answer=RUN))
def get_run(request: HttpRequest, run_id: UUID) -> Any:
    """A run with its steps."""
    return _find(request, run_id)


@router.get(
    "/{run_id}/events",
    summary="A run's progress as it happens",
    openapi_extra=streams.documented(404, 429),
)
def get_events(
    request: HttpRequest, run_id: UUID, last_event_id: int | None = Header(None, alias="Last-Event-ID", ge=0)
) -> HttpResponseBase:
    """Server-sent events: `step` with a step as in `GET runs/{run_id}`, whenever one changes; the run's own events
    (`run.started`, `run.waiting`, …), whose ids a client sends back as `Last-Event-ID` after a break; and `end` with
    the run when it has ended, after which the stream closes. It is cut when you log out, your key or your role in the
    tenant ends. At most 5 streams of a user and 20 of a tenant are open at once in each web process."""
    run = _find(request, run_id)
    return streams.answer(request, run.tenant, "runs.view", progress.events(run.pk, after=last_event_id or 0))


def _find(request: HttpRequest, run_id: UUID) -> Run:
    """The run, of a tenant that the caller sees; the same answer for one that is not there."""
    actor = actor_of(request)
    visible = Tenant.objects.visible_to(actor)
    rows = Run.objects.select_related("tenant").prefetch_related("steps")
    run = rows.filter(public_id=run_id, tenant__in=visible).first()
    if run is None:
        unseen = Run.objects.select_related("tenant").filter(public_id=run_id).first()
        deny(NotFound(), actor=actor, ability="runs.view", tenant=unseen.tenant if unseen else None)
    require(actor, "runs.view", run.tenant)
    return run
