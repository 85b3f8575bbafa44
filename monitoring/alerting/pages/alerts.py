"""What fires and what fired: of all of somebody's tenants, and of one, with what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from monitoring.alerting import services
from monitoring.alerting.api import lookup
from monitoring.alerting.machine import State
from monitoring.alerting.models import Alert, Silence
from monitoring.alerting.ownership import ABILITY, managed_by, theirs
from monitoring.alerting.pages.forms import SilenceForm
from tenants.admin.site import refused_in, telling
from tenants.models import Tenant
from tenants.pages.frame import Viewer, actor_of, address, own, show, signed_in, tenant_page
from tenants.pages.ownership import asked
from tenants.pages.paging import page_of
from tenants.states import Status
from zcplatform.lib import clock

MOST = 100
"""Open alerts on one page; of one rule and tenant there is at most one."""


@dataclass(frozen=True)
class Line:
    """An open alert, and the silence that keeps it quiet for this tenant, if one does."""

    alert: Alert
    silence: Silence | None


@signed_in("GET", "HEAD")
def mine_view(request: HttpRequest) -> HttpResponse:
    """The alerts of every tenant that somebody looks after; for super-admins the platform's as well."""
    actor = actor_of(request)
    state = request.GET.get("state", "")
    state = state if state in (State.FIRING, State.RESOLVED) else State.FIRING
    rows = Alert.objects.filter(theirs(actor), state=state).exclude(tenant__status=Status.DELETED)
    context = {
        "rows": page_of(rows.select_related("tenant"), request, key="pk", descending=True),
        "state": state,
        "states": [(State.FIRING, _("Firing")), (State.RESOLVED, _("Over"))],
        "manages": actor.unrestricted or managed_by(actor).exists(),
    }
    return render(request, "monitoring/alerts.html", context)


@tenant_page(ABILITY)
def alerts_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Open ones first, each with what can be done; then silences; then those that are over, fifty a page."""
    silences = list(in_force(tenant))
    opened = Alert.objects.filter(tenant=tenant).exclude(state=State.RESOLVED).select_related("rule")
    context: dict[str, Any] = {
        "lines": [Line(alert, _quiet(alert, silences)) for alert in opened.order_by("state", "-pk")[:MOST]],
        "silences": [(row, viewer.actor.unrestricted or row.for_tenant_only) for row in silences],
        "rows": page_of(tenant.alerts.filter(state=State.RESOLVED), request, key="pk", descending=True),
        "told": tenant.notifiers.filter(enabled=True).exists(),
        "part": "alerts",
    }
    return show(request, "alerts.html", tenant, viewer, "alerts", **context)


def in_force(tenant: Tenant) -> QuerySet[Silence]:
    """The tenant's silences that hold now."""
    return tenant.silences.filter(until__gt=clock.now()).select_related("rule").order_by("until")


def _quiet(alert: Alert, silences: list[Silence]) -> Silence | None:
    return next((row for row in silences if row.rule_id in (None, alert.rule_id)), None)


@tenant_page(ABILITY, "POST")
def ack_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, alert: UUID) -> HttpResponse:
    """Somebody looks after it: no more repeats."""
    row = own(Alert.objects.all(), tenant, alert)
    with telling(request):
        services.acknowledge(actor=viewer.actor, alert=row)
        messages.success(request, _("%(alert)s: no more repeats; its end is still told.") % {"alert": row.name})
    return redirect(address(tenant, "alerts"))


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def silence_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET asks about what and for how long; POST keeps quiet."""
    rules = list(lookup.rules_of(viewer.actor, str(tenant.public_id)).order_by("name", "pk"))
    data = request.POST if request.method == "POST" else None
    form = SilenceForm(data, rules=rules, initial={"rule": request.GET.get("rule", "")})
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            rule, span, note = form.asked()
            services.silence(actor=viewer.actor, until=clock.now() + span, rule=rule, tenant=tenant, note=note)
            messages.success(request, _("Silenced; what still fires afterwards is told then."))
            return redirect(address(tenant, "alerts"))
    context: dict[str, Any] = {
        "title": _("Silence alerts of %(tenant)s") % {"tenant": tenant.slug},
        "notes": [
            _("Nothing new and no repeats until then; ends are still told."),
            _("The platform's operators are not told either.")
            if viewer.actor.unrestricted
            else _("The platform's operators are still told."),
        ],
        "button": _("Silence"),
        "form": form,
        "back": address(tenant, "alerts"),
    }
    return asked(request, tenant, viewer, "alerts", **context)


@tenant_page(ABILITY, "POST")
def lift_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, silence: UUID) -> HttpResponse:
    """Speak again."""
    row = own(Silence.objects.all(), tenant, silence)
    services.unsilence(actor=viewer.actor, silence=row)
    messages.success(request, _("The silence is lifted."))
    return redirect(address(tenant, "alerts"))
