"""Where the link in an invitation's mail leads."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.auth import origin_of
from accounts.models import User
from tenants import invitations
from zcplatform.lib.errors import Forbidden, ZCError

MAX_TOKEN = 100
TEMPLATE = "tenants/invitation.html"


@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button and changes nothing (mail programs open links); POST accepts, once logged in."""
    if not isinstance(request.user, User):
        return redirect(f"/login?{urlencode({'next': request.path})}")
    try:
        return render(request, TEMPLATE, _answered(request, request.user, token[:MAX_TOKEN]))
    except ZCError as error:
        return render(request, TEMPLATE, {"error": error}, status=error.status)


def _answered(request: HttpRequest, user: User, token: str) -> dict[str, object]:
    if request.method == "POST":
        actor = user.as_actor(**origin_of(request))
        return {"member": invitations.accept(actor=actor, user=user, token=token)}
    found = invitations.find(token)
    if found.email != user.email:
        raise Forbidden("This invitation is for another address.", type="not_invited")
    return {"invitation": found}
