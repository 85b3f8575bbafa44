"""Runs in the admin: read only, each as a timeline of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils.html import format_html

from tenants import words
from tenants.admin.site import ReadOnlyAdmin, page
from tenants.models import Run, StepRecord
from tenants.provisioning.plans import step_names
from zcplatform.lib import clock


@dataclass(frozen=True)
class Line:
    """One step as the timeline shows it; ``status`` is ``pending`` for one that is still to come."""

    name: str
    status: str
    seconds: float | None = None
    attempts: int = 0
    error: str = ""
    at: datetime | None = None


def timeline(run: Run) -> list[Line]:
    """The steps that were made, then those still to come unless the run has ended."""
    records = {step.name: step for step in run.steps.all()}
    names = [*records, *(name for name in step_names(run) if name not in records and run.is_active)]
    return [_line(name, records.get(name)) for name in names]


def _line(name: str, step: StepRecord | None) -> Line:
    text = name.replace("_", " ")
    if step is None:
        return Line(text, "pending")
    return Line(
        text, step.status, _seconds(step.started_at, step.finished_at), step.attempts, step.error, step.started_at
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return ((end or clock.now()) - start).total_seconds() if start else None


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ["run", "tenant_slug", "state", "why", "took", "actor", "when"]
    list_filter = ["status", "kind"]
    search_fields = ["=public_id", "tenant__slug", "actor", "=request_id"]
    list_select_related = ["tenant"]
    ordering = ["-id"]
    list_per_page = 50
    actions = None

    @admin.display(description="Run", ordering="kind")
    def run(self, run: Run) -> str:
        return run.get_kind_display()

    @admin.display(description="Tenant", ordering="tenant__slug")
    def tenant_slug(self, run: Run) -> str:
        return run.tenant.slug

    @admin.display(description="Status", ordering="status")
    def state(self, run: Run) -> str:
        return render_to_string("tenants/_run_pill.html", {"status": run.status})

    @admin.display(description="Reason")
    def why(self, run: Run) -> str:
        return run.get_reason_display() if run.reason else ""

    @admin.display(description="Seconds")
    def took(self, run: Run) -> str:
        seconds = _seconds(run.started_at, run.finished_at)
        return format_html('<span class="num">{}</span>', "" if seconds is None else f"{seconds:.1f}")

    @admin.display(description="When", ordering="created_at")
    def when(self, run: Run) -> str:
        exact = clock.in_words(run.created_at)
        return format_html('<span title="{}">{}</span>', exact, words.ago(run.created_at))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not object_id.isdecimal():
            raise Http404
        run = get_object_or_404(Run.objects.select_related("tenant").prefetch_related("steps"), pk=object_id)
        title = f"{run.get_kind_display()} of {run.tenant.slug}"
        context: dict[str, Any] = {
            "run": run,
            "lines": timeline(run),
            "seconds": _seconds(run.started_at, run.finished_at),
        }
        return page(request, "run.html", title=title, tenant=run.tenant, **context)
