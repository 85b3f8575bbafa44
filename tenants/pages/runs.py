"""Runs: a tenant's list, and one as it happens. A page that is left and opened again shows the same."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants import operations
from tenants.access import role_in
from tenants.admin.actions import VERBS
from tenants.admin.runs import timeline
from tenants.models import Run, StepRecord, Tenant
from tenants.pages.frame import Viewer, actor_of, can_do, show, signed_in, tenant_page
from tenants.pages.paging import page_of
from tenants.routing import router
from tenants.states import RunKind, RunStatus, Status
from zcplatform.lib.ansi import plain
from zcplatform.lib.errors import NotFound, ZCError
from zcplatform.lib.terminal import visible

TAIL = 20
AGAIN: dict[str, str] = {
    RunKind.PROVISION: "deploy",
    RunKind.START: "start",
    RunKind.STOP: "stop",
    RunKind.RESTART: "restart",
    RunKind.RECONFIGURE: "deploy",
    RunKind.RESIZE: "deploy",
    RunKind.REACTIVATE: "deploy",
    RunKind.ROTATE_SECRETS: "deploy",
    RunKind.DEPROVISION: "delete",
    RunKind.UNDELETE: "deploy",
}
"""By which act a failed run is tried again."""


@signed_in("GET", "HEAD")
def run_view(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """The steps with their times, the cause in words when one failed, and what can be done then."""
    run, viewer = find(request, public_id)
    context = story(run, viewer)
    if run.tenant.status == Status.DELETED:
        return render(request, "tenants/pages/run_deleted.html", {"tenant": run.tenant, **context})
    return show(request, "run.html", run.tenant, viewer, "runs", **context)


@signed_in("GET", "HEAD")
def live_view(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """The same without the frame; it asks for itself again as long as the run goes on."""
    run, viewer = find(request, public_id)
    return render(request, "tenants/pages/_run.html", {"tenant": run.tenant, **story(run, viewer)})


@tenant_page("runs.view")
def runs_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The newest first."""
    rows = page_of(tenant.runs.all(), request, key="pk", descending=True)
    return show(request, "runs.html", tenant, viewer, "runs", rows=rows)


def find(request: HttpRequest, public_id: UUID) -> tuple[Run, Viewer]:
    """The run and who looks at it; also of a deleted tenant, for who was a member. NotFound for a stranger."""
    steps = Prefetch("steps", StepRecord.objects.order_by("position"))
    rows = Run.objects.select_related("tenant__plan", "tenant__node", "tenant__config").prefetch_related(steps)
    run, actor = rows.filter(public_id=public_id).first(), actor_of(request)
    if run is None:
        raise NotFound
    role = role_in(actor, run.tenant) or ""
    if not role and not actor.unrestricted:
        raise NotFound
    viewer = Viewer(actor, role)
    if "runs.view" not in viewer.abilities:
        raise NotFound
    return run, viewer


def story(run: Run, viewer: Viewer) -> dict[str, Any]:
    """What the page tells of a run, and nothing that is not so yet."""
    tenant, failed, lines = run.tenant, run.status == RunStatus.FAILED, timeline(run)
    again = VERBS.get(AGAIN.get(run.kind, ""))
    latest = failed and not tenant.runs.filter(pk__gt=run.pk).exists()
    return {
        "run": run,
        "lines": lines,
        "cause": "" if any(line.error == run.error for line in lines) else run.error,
        "seconds": ((run.finished_at or run.created_at) - (run.started_at or run.created_at)).total_seconds(),
        "retry": again if latest and again and can_do(viewer, again.name) else None,
        "delete": VERBS["delete"] if latest and can_do(viewer, "delete") and run.kind != "deprovision" else None,
        "cancel": VERBS["stop"] if _can_cancel(run) and can_do(viewer, "stop") else None,
        "log": _log(tenant, viewer) if failed and viewer.may["logs_read"] else "",
        "url": router().url(tenant.slug) if run.status == RunStatus.SUCCEEDED and tenant.routed else "",
        "gone": tenant.status == Status.DELETED,
    }


def _can_cancel(run: Run) -> bool:
    return run.is_active and run.kind in (RunKind.PROVISION, RunKind.START, RunKind.RESTART, RunKind.RECONFIGURE)


def _log(tenant: Tenant, viewer: Viewer) -> str:
    """The agent's last lines; none is no reason to hide the rest."""
    try:
        return visible(plain(operations.read_logs(actor=viewer.actor, tenant=tenant, tail=TAIL, times=True)))
    except ZCError:
        return ""
