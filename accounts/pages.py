"""Logging in and out in a browser."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.auth import origin_of
from accounts.login_links import LIFETIME, consume_login_link, user_of_link
from accounts.models import User
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib.errors import Unauthenticated

MAX_TOKEN = 100


@require_GET
def login_page(request: HttpRequest) -> HttpResponse:
    """How to get in, or who is in."""
    return render(request, "accounts/login.html")


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
    login(request, user)  # a fresh session key, whoever set the old one
    return redirect(local_path(request.POST.get("next", "")) or ("/admin/" if user.is_staff else "/login"))


@require_POST
def logout_page(request: HttpRequest) -> HttpResponse:
    """End the session; harmless for who has none."""
    if isinstance(request.user, User):
        with transaction.atomic():
            record("login.end", actor=request.user.as_actor(**origin_of(request)), target=target_of(request.user))
    logout(request)
    return redirect("/login")


def local_path(path: str) -> str:
    """``path`` when it leads to a page of this site, else an empty string."""
    local = path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    return path if local else ""


def _dead_link(request: HttpRequest) -> HttpResponse:
    minutes = int(LIFETIME.total_seconds() // 60)
    return render(request, "accounts/dead_link.html", {"minutes": minutes}, status=410)
