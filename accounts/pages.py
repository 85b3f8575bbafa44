"""Logging in and out in a browser: by a code sent to one's address, or by a link; then the second factor, if enrolled.

Nothing here needs JavaScript. What is known between two steps lies in the session: the address that a code was sent to
with the handle that the code is bound to, and, once it was proven, a token that is good for showing the second factor
and nothing else.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.auth import login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from accounts import codes, second_factor, sign_in
from accounts.auth import origin_of
from accounts.login_links import LIFETIME, consume_login_link, user_of_link
from accounts.models import User
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib.errors import RequestError, Unauthenticated

MAX_TOKEN = 100
ADDRESS, HANDLE, PENDING, NEXT = "login_address", "login_handle", "login_pending", "login_next"


@require_http_methods(["GET", "HEAD", "POST"])
def login_page(request: HttpRequest) -> HttpResponse:
    """Who is in, or where to send a code."""
    if request.method != "POST" or request.user.is_authenticated:
        context = {"next": local_path(request.GET.get("next", "")), "lost": "lost" in request.GET}
        return render(request, "accounts/login.html", context)
    email = request.POST.get("email", "")
    try:
        before = request.session.get(HANDLE, "")
        handle = codes.request_code(email, ip=origin_of(request)["ip"], before=before, by_network=False)
    except RequestError as error:
        return _again(request, "accounts/login.html", error, email=email[:254], next=_next(request))
    request.session[ADDRESS], request.session[HANDLE] = email, handle
    request.session[NEXT] = _next(request)
    return redirect("login_code")


@require_http_methods(["GET", "HEAD", "POST"])
def login_code(request: HttpRequest) -> HttpResponse:
    """The code that was sent. Spaces that came along when it was copied do no harm."""
    address = request.session.get(ADDRESS)
    if address is None:
        return redirect("login")
    if request.method != "POST":
        return render(request, "accounts/login_code.html", {"address": address})
    try:
        code, handle = "".join(request.POST.get("code", "").split()), request.session.get(HANDLE, "")
        user = codes.verify_code(address, code, handle=handle, **origin_of(request))
    except RequestError as error:
        return _again(request, "accounts/login_code.html", error, address=address)
    return _proven(request, user, by="code")


@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button and changes nothing (mail programs open links); POST uses the link up."""
    if request.method != "POST":
        user = user_of_link(token[:MAX_TOKEN])
        if user is None:
            return _dead_link(request)
        context = {"who": user, "next": local_path(request.GET.get("next", ""))}
        return render(request, "accounts/login_link.html", context)
    try:
        user = consume_login_link(token[:MAX_TOKEN], **origin_of(request))
    except Unauthenticated:
        return _dead_link(request)
    request.session[NEXT] = _next(request)
    return _proven(request, user, by="link")


@require_http_methods(["GET", "HEAD", "POST"])
def second_factor_page(request: HttpRequest) -> HttpResponse:
    """The second step, for whoever enrolled a second factor."""
    try:
        user = sign_in.user_of_pending(request.session.get(PENDING, ""))
    except Unauthenticated:
        return redirect("login")
    if request.method != "POST":
        return render(request, "accounts/second_factor.html")
    try:
        second_factor.verify(user, request.POST.get("code", "")[:32], ip=origin_of(request)["ip"])
    except RequestError as error:
        if isinstance(error, Unauthenticated):
            sign_in.note_refusal(user, by="second factor", audit=origin_of(request))
        return _again(request, "accounts/second_factor.html", error)
    return let_in(request, user, by="second factor", verified=True)


@require_http_methods(["GET", "HEAD", "POST"])
def step_up_page(request: HttpRequest) -> HttpResponse:
    """The second factor, shown again before what can't be undone; see ``accounts.stepup``."""
    user = request.user
    place = local_path(request.GET.get("next", "")) or "/account"
    if not isinstance(user, User):
        return redirect(f"/login?{urlencode({'next': place})}")
    if user.second_factor_at is None:
        return redirect(place)
    if request.method != "POST":
        return render(request, "accounts/second_factor.html", {"again": True})
    try:
        actor = user.as_actor(**origin_of(request))
        second_factor.step_up(user, request.login, request.POST.get("code", "")[:32], actor=actor)  # type: ignore[attr-defined]
    except RequestError as error:
        return _again(request, "accounts/second_factor.html", error, again=True)
    return redirect(place)


@require_POST
def logout_page(request: HttpRequest) -> HttpResponse:
    """End the session; harmless for who has none."""
    if isinstance(request.user, User):
        sign_in.close_browser_login(request.user, request.login, audit=origin_of(request))  # type: ignore[attr-defined]
    logout(request)
    return redirect("/login")


def local_path(path: str) -> str:
    """``path`` when it leads to a page of this site, else an empty string."""
    local = path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    return path if local else ""


def to_login(request: HttpRequest, *, can_be_opened: bool) -> HttpResponse:
    """The way to the login and back: to the page itself, or to that of the form which was sent to what no page is.
    After a form, the login page says that nothing was saved."""
    here = request.get_full_path()
    if request.method in ("GET", "HEAD"):
        return redirect(f"/login?{urlencode({'next': here})}")
    place = here if can_be_opened else local_path(urlsplit(request.headers.get("referer", "")).path) or "/"
    return redirect(f"/login?{urlencode({'next': place, 'lost': 1})}")


def _proven(request: HttpRequest, user: User, *, by: str) -> HttpResponse:
    """The address is proven; whoever enrolled a second factor has shown half of what is asked."""
    if user.second_factor_at is None:
        return let_in(request, user, by=by, verified=False)
    for name in (ADDRESS, HANDLE):
        request.session.pop(name, None)
    request.session[PENDING] = sign_in.pending_token(user)
    request.session.cycle_key()
    return redirect("login_second_factor")


def let_in(request: HttpRequest, user: User, *, by: str, verified: bool) -> HttpResponse:
    """Open the session under a fresh key, whoever set the old one."""
    place = local_path(request.session.get(NEXT, "")) or "/"
    for name in (ADDRESS, HANDLE, PENDING, NEXT):
        request.session.pop(name, None)
    request.second_factor_shown = verified  # type: ignore[attr-defined]
    with transaction.atomic():
        login(request, user)
        if by != "link" or verified:  # a link has been recorded when it was used up
            actor = user.as_actor(**origin_of(request))
            record("login.success", actor=actor, target=target_of(user), detail={"by": by})
    return redirect(place)


def _next(request: HttpRequest) -> str:
    return local_path(request.POST.get("next", ""))


def _again(request: HttpRequest, template: str, error: RequestError, **context: Any) -> HttpResponse:
    return render(request, template, {**context, "error": error.message}, status=error.status)


def _dead_link(request: HttpRequest) -> HttpResponse:
    minutes = int(LIFETIME.total_seconds() // 60)
    return render(request, "accounts/dead_link.html", {"minutes": minutes}, status=410)
