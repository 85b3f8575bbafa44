"""The first page after logging in: what is wrong, what it costs, what to do. It combines every app's facts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import User
from tenants import invitations
from tenants.models import Run, Tenant
from tenants.pages.frame import actor_of, signed_in
from tenants.pages.listing import lines_of, may_create
from zcplatform.lib.actors import Actor
from zcplatform.pages import attention, fleet

RUNS = 8
MINE = 12


@signed_in("GET", "HEAD")
def dashboard(request: HttpRequest) -> HttpResponse:
    """Super-admins see the fleet, everybody else their own tenants."""
    actor = actor_of(request)
    if actor.unrestricted:
        return render(request, "dashboard/fleet.html", fleet_context())
    return render(request, "dashboard/mine.html", mine_context(actor, request.user))  # type: ignore[arg-type]


def fleet_context() -> dict[str, Any]:
    """The same facts for the dashboard and the admin's front page."""
    alerts = fleet.firing()
    return {
        "counts": fleet.counts(),
        "alerts": alerts[: fleet.ALERTS],
        "more_alerts": len(alerts) > fleet.ALERTS,
        "capacity": fleet.capacity(),
        "attention": attention.of_fleet(),
        "runs": Run.objects.select_related("tenant").order_by("-pk")[:RUNS],
        "spenders": fleet.spenders_today(),
    }


def mine_context(actor: Actor, user: User) -> dict[str, Any]:
    """One card for each tenant, the troubled first."""
    rows = Tenant.objects.visible_to(actor).alive().select_related("plan", "node")
    found = list(rows.order_by("slug")[: MINE + 1])
    lines = sorted(lines_of(found[:MINE]), key=lambda line: (line.tenant.status != "error", line.tenant.slug))
    last = fleet.last_messages(found[:MINE])
    return {
        "lines": lines,
        "more": len(found) > MINE,
        "attention": attention.of_tenants(found[:MINE]),
        "cards": [(line, last.get(line.tenant.pk)) for line in lines],
        "may_create": may_create(actor),
        "invitations": invitations.of(user),
    }
