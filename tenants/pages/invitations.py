"""Where the link in an invitation's mail leads."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.auth import origin_of
from accounts.models import User
from accounts.pages import let_in
from tenants import invitations
from zcplatform.lib.errors import Forbidden, ZCError

MAX_TOKEN = 100
TEMPLATE = "tenants/invitation.html"


@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button and changes nothing (mail programs open links); POST accepts, once logged in."""
    try:
        if not isinstance(request.user, User):
            return _for_a_stranger(request, token[:MAX_TOKEN])
        return render(request, TEMPLATE, _answered(request, request.user, token[:MAX_TOKEN]))
    except ZCError as error:
        return render(request, TEMPLATE, {"error": error}, status=error.status)


def _for_a_stranger(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever has no account yet gets it by accepting, and is logged in; everybody else logs in first."""
    if request.method != "POST":
        if not invitations.is_for_nobody_yet(token):
            return _to_log_in(request)
        return render(request, TEMPLATE, {"invitation": invitations.find(token)})
    member = invitations.accept_anew(token=token, **origin_of(request))
    if member is None:
        return _to_log_in(request)
    let_in(request, member.user, by="invitation", verified=False)
    return render(request, TEMPLATE, {"member": member})


def _to_log_in(request: HttpRequest) -> HttpResponse:
    return redirect(f"/login?{urlencode({'next': request.path})}")


def _answered(request: HttpRequest, user: User, token: str) -> dict[str, object]:
    if request.method == "POST":
        actor = user.as_actor(**origin_of(request))
        return {"member": invitations.accept(actor=actor, user=user, token=token)}
    found = invitations.find(token)
    if found.email != user.email:
        raise Forbidden("This invitation is for another address.", type="not_invited")
    return {"invitation": found}
