"""What can be done to a tenant from its pages: asked about first where it hurts, told as asked for and not as done."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tenants.admin.actions import VERBS, Verb, VerbForm
from tenants.admin.site import telling
from tenants.models import Run, Tenant
from tenants.pages.frame import Viewer, address, can_do, forbidden, needs_step_up, said, show, tenant_page, to_step_up


@tenant_page("tenant.view", "GET", "HEAD", "POST")
def act_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, name: str) -> HttpResponse:
    """GET asks and changes nothing; POST acts and leads to the run."""
    verb = VERBS.get(name)
    if verb is None:
        raise Http404
    if not can_do(viewer, name):
        return forbidden(request, tenant, viewer, f"tenant.{name}")
    if needs_step_up(verb) and (step := to_step_up(request, address(tenant, "act", name))):
        return step
    form = verb.form(request.POST if request.method == "POST" else None, tenants=[tenant])
    if request.method != "POST" or not form.is_valid():
        return ask(request, tenant, viewer, verb, form)
    return _done(request, tenant, viewer, verb, form.cleaned_data)


def ask(request: HttpRequest, tenant: Tenant, viewer: Viewer, verb: Verb, form: VerbForm) -> HttpResponse:
    """The question; the same page serves as dialog and without JavaScript."""
    title = _("%(verb)s %(tenant)s?") % {"verb": _(verb.label), "tenant": tenant.slug}
    button = _("%(verb)s %(tenant)s") % {"verb": _(verb.label), "tenant": tenant.slug}
    context: dict[str, Any] = {"verb": verb, "form": form, "title": title, "button": button}
    answer = show(request, "ask.html", tenant, viewer, "", **context)
    answer.status_code = 422 if form.is_bound else 200
    return answer


def _done(request: HttpRequest, tenant: Tenant, viewer: Viewer, verb: Verb, data: dict[str, Any]) -> HttpResponse:
    with telling(request):
        result = verb.act(viewer.actor, tenant, data)
        if isinstance(result, Run):
            return redirect("run", result.public_id)
        messages.success(request, said(verb, tenant))
    return redirect(address(tenant))
