"""What was deleted and is still in the trash, and the way back."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts import once
from tenants.access import can, require
from tenants.admin.site import telling
from tenants.models import Tenant
from tenants.pages.frame import actor_of, signed_in
from tenants.pages.paging import page_of
from tenants.undelete import undelete, until
from zcplatform.lib.errors import NotFound


@signed_in("GET", "HEAD")
def deleted_view(request: HttpRequest) -> HttpResponse:
    """A page of fifty, the newest first: of whom one was a member, and for super-admins all."""
    actor = actor_of(request)
    rows = page_of(Tenant.objects.reached_by(actor).in_trash(), request, key="pk", descending=True)
    lines = [(tenant, until(tenant), can(actor, "tenant.undelete", tenant)) for tenant in rows.items]
    return render(request, "tenants/pages/deleted.html", {"rows": rows, "lines": lines})


@signed_in("POST")
def undelete_view(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """Bring it back; its new access token is shown by the page that this leads to."""
    actor = actor_of(request)
    tenant = Tenant.objects.reached_by(actor).filter(public_id=public_id).first()
    if tenant is None:
        raise NotFound
    require(actor, "tenant.undelete", tenant)
    with telling(request, _("Not brought back")):
        back = undelete(actor=actor, tenant=tenant)
        once.keep(request, f"token:{tenant.public_id}", back.access_token.reveal())
        _tell(request, was=tenant.slug, now=back.tenant.slug)
        return redirect("tenant_access", back.tenant.slug)
    return redirect("deleted_tenants")


def _tell(request: HttpRequest, *, was: str, now: str) -> None:
    if was != now:
        text = _("The address %(was)s belongs to another tenant by now: this one is %(now)s.")
        messages.warning(request, text % {"was": was, "now": now})
    messages.success(request, _("%(tenant)s is back") % {"tenant": now})
    messages.info(request, _("It is stopped. Switch on the channels that it should have, then start it."))
