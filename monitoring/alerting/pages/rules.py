"""A tenant's own rules, and those of the platform that tell the tenant."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from monitoring.alerting import services
from monitoring.alerting.api import lookup
from monitoring.alerting.machine import State
from monitoring.alerting.message import condition_of
from monitoring.alerting.models import AlertRule
from monitoring.alerting.ownership import ABILITY
from monitoring.alerting.pages.forms import RuleForm
from tenants.admin.site import refused_in, telling
from tenants.models import Tenant
from tenants.pages.frame import Viewer, address, confirm, own, show, tenant_page
from tenants.pages.ownership import asked


@tenant_page(ABILITY)
def rules_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Own ones can be changed; the platform's are there to be read."""
    firing = Count("alerts", filter=Q(alerts__tenant=tenant, alerts__state=State.FIRING))
    rows = lookup.rules_of(viewer.actor, str(tenant.public_id)).annotate(firing=firing).order_by("name", "pk")
    found = [(row, condition_of(row)) for row in rows]
    context = {
        "own": [(row, text) for row, text in found if row.tenant_id is not None],
        "given": [(row, text) for row, text in found if row.tenant_id is None and row.enabled],
        "most": services.MAX_RULES,
        "part": "rules",
    }
    return show(request, "alert_rules.html", tenant, viewer, "alerts", **context)


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def add_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET the form; POST makes the rule."""
    form = RuleForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            rule = services.create_rule(actor=viewer.actor, tenant=tenant, values=form.values())
            messages.success(request, _("%(rule)s is looked at every minute from now on.") % {"rule": rule.name})
            return redirect(address(tenant, "alert_rules"))
    return _form(request, tenant, viewer, form, title=_("New alert rule"), button=_("Make the rule"))


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def change_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, rule: UUID) -> HttpResponse:
    """GET the form; POST stores what was changed."""
    row = own(AlertRule.objects.all(), tenant, rule)
    form = RuleForm(request.POST if request.method == "POST" else None, rule=row)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            services.update_rule(actor=viewer.actor, rule=row, changes=form.values(changed=True))
            messages.success(request, _("%(rule)s is stored.") % {"rule": row.name})
            return redirect(address(tenant, "alert_rules"))
    notes = [_("A changed condition ends what the rule has firing now; it is looked at anew.")]
    remove = address(tenant, "alert_rule_delete", row.public_id)
    return _form(request, tenant, viewer, form, title=row.name, button=_("Save"), notes=notes, remove=remove)


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def delete_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, rule: UUID) -> HttpResponse:
    """GET asks; POST deletes the rule."""
    row = own(AlertRule.objects.all(), tenant, rule)
    if request.method == "POST":
        with telling(request):
            services.delete_rule(actor=viewer.actor, rule=row)
            messages.success(request, _("%(rule)s was deleted.") % {"rule": row.name})
        return redirect(address(tenant, "alert_rules"))
    return confirm(
        request,
        tenant,
        viewer,
        "alerts",
        title=_("Delete the rule “%(rule)s”?") % {"rule": row.name},
        notes=[_("Its open alerts end; they and their messages stay to be read.")],
        button=_("Delete the rule"),
        back=address(tenant, "alert_rule", row.public_id),
    )


def _form(request: HttpRequest, tenant: Tenant, viewer: Viewer, form: RuleForm, **context: Any) -> HttpResponse:
    return asked(request, tenant, viewer, "alerts", form=form, back=address(tenant, "alert_rules"), **context)
