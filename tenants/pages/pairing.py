"""The pairing code of a tenant's agent: looked at, and reset with everything that was paired."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tenants import pairing
from tenants.admin.site import telling
from tenants.models import Tenant
from tenants.pages.frame import Viewer, address, confirm, show, tenant_page, to_step_up
from tenants.tokens import live
from zcplatform.lib.errors import ZCError


@tenant_page("pairing.manage")
def pairing_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The code of now, how a device uses it, and what was paired. Looking changes nothing."""
    if step := to_step_up(request):
        return step
    context: dict[str, Any] = {"paired": live().filter(tenant=tenant, paired=True).order_by("-pk")}
    try:
        found = pairing.current(actor=viewer.actor, tenant=tenant)
        context |= {"pairing": found, "code": found.code.reveal()}
    except ZCError as error:
        context["refused"] = error.message
    answer = show(request, "pairing.html", tenant, viewer, "pairing", **context)
    answer["Cache-Control"] = "no-store, private"
    return answer


@tenant_page("pairing.manage", "GET", "HEAD", "POST")
def reset_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET asks; POST ends the code and every token that was paired."""
    if step := to_step_up(request, address(tenant, "pairing_reset")):
        return step
    if request.method == "POST":
        with telling(request):
            pairing.reset(actor=viewer.actor, tenant=tenant)
            messages.success(request, _("Pairing is reset; the code below is new."))
        return redirect(address(tenant, "pairing"))
    return confirm(
        request,
        tenant,
        viewer,
        "pairing",
        title=_("Reset the pairing of %(tenant)s?") % {"tenant": tenant.slug},
        notes=[
            _("The code of now ends, and every paired device has to be paired again: its token stops working at once."),
            _("Access tokens that were made by hand stay."),
        ],
        button=_("Reset pairing"),
        back=address(tenant, "pairing"),
    )
