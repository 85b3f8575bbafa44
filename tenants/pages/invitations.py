"""Where the mail of an invitation leads: GET shows a button and changes nothing, POST accepts."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts import rates
from tenants import invitations
from tenants.api.invitations import ACCEPTS
from tenants.pages.frame import actor_of, address, signed_in
from zcplatform.lib.errors import ZCError

MAX_TOKEN = 100


@signed_in("GET", "HEAD", "POST")
def invitation_view(request: HttpRequest, token: str) -> HttpResponse:
    """Who is not logged in logs in first; that proves the address."""
    user: Any = request.user
    found = invitations.find(token[:MAX_TOKEN])
    if request.method == "POST":
        try:
            rates.spend(ACCEPTS, "invitation-accept", str(user.pk))
            member = invitations.accept(actor=actor_of(request), user=user, token=token[:MAX_TOKEN])
        except ZCError as error:
            return render(request, "tenants/pages/invitation.html", {"error": error.message}, status=error.status)
        messages.success(request, _("You are %(role)s of %(name)s.") % {"role": member.role, "name": found.tenant.name})
        return redirect(address(found.tenant))
    if user.email != found.email:
        text = _("This invitation is for another address. Log in with that one.")
        return render(request, "tenants/pages/invitation.html", {"error": text}, status=403)
    return render(request, "tenants/pages/invitation.html", {"invitation": found})
