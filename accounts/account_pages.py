"""One's own account in a browser: second factor, sessions, API keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import segno
from django import forms
from django.contrib.auth import login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import api_keys, logins, second_factor, stepup
from accounts.auth import origin_of
from accounts.models import ApiKey, Login, User
from accounts.pages import to_login
from accounts.permissions import SCOPES
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import RequestError

ACCOUNT_LOGIN = f"/login?{urlencode({'next': '/account'})}"
View = Callable[..., HttpResponse]
SCOPE_WORDS = {
    "read": "read: look at tenants, logs and this account",
    "write": "write: that, and run tenants as a manager does",
    "admin": "admin: everything you may do",
}


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What it is for.")
    scope = forms.ChoiceField(choices=[(scope, SCOPE_WORDS[scope]) for scope in SCOPES])
    days = forms.IntegerField(
        min_value=1, max_value=api_keys.MAX_DAYS, initial=90, label="Days", help_text="After these it ends."
    )


def for_users(view: View) -> View:
    """Strangers log in first."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        if not isinstance(request.user, User):
            return to_login(request, can_be_opened=False) if request.method == "POST" else redirect(ACCOUNT_LOGIN)
        return view(request, *args, **options)

    return wrapped


@require_safe
@for_users
def account(request: HttpRequest) -> HttpResponse:
    """Everything that belongs to oneself, on one page."""
    return _account(request)


@require_POST
@for_users
def make_key(request: HttpRequest) -> HttpResponse:
    """A new API key; its value stands on the page that this answers with, and nowhere else."""
    stepup.require(request, "bearer.made")
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _account(request, status=422, form=form)
    data = form.cleaned_data
    try:
        key, value = api_keys.create(
            _user(request), actor=_actor(request), name=data["name"], scopes=[data["scope"]], days=data["days"]
        )
    except RequestError as error:
        return _account(request, status=error.status, error=error.message)
    return _account(request, made=key, value=value.reveal())


@require_POST
@for_users
def revoke_key(request: HttpRequest, key: UUID) -> HttpResponse:
    """End one key."""
    row = ApiKey.objects.filter(user=_user(request), public_id=key).first()
    if row is None:
        raise Http404
    api_keys.revoke(row, actor=_actor(request))
    return redirect("account")


@require_POST
@for_users
def end_session(request: HttpRequest, session: UUID) -> HttpResponse:
    """End one session."""
    row = Login.objects.filter(user=_user(request), public_id=session).select_related("user").first()
    if row is None:
        raise Http404
    logins.revoke(row, actor=_actor(request))
    return redirect("account")


@require_POST
@for_users
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    """End all but this one."""
    logins.revoke_others(_user(request), actor=_actor(request), but=_login(request).public_id)
    return redirect("account")


@require_http_methods(["GET", "HEAD", "POST"])
@for_users
def enrol(request: HttpRequest) -> HttpResponse:
    """GET shows the QR code; POST enrols by the app's first code and shows the recovery codes, once."""
    user = _user(request)
    if user.second_factor_at:
        return redirect("account")
    if request.method != "POST":
        return _enrol(request, user)
    try:
        recovery = second_factor.confirm(user, request.POST.get("code", "").strip()[:32], actor=_actor(request))
    except RequestError as error:
        return _enrol(request, user, error=error.message, status=error.status)
    _stay_logged_in(request, user)
    return render(request, "accounts/recovery_codes.html", {"codes": recovery, "enrolled": True})


@require_POST
@for_users
def begin_enrolment(request: HttpRequest) -> HttpResponse:
    """A new secret for the app."""
    if not _user(request).second_factor_at:
        second_factor.begin(_user(request))
    return redirect("second_factor_enrol")


@require_POST
@for_users
def new_codes(request: HttpRequest) -> HttpResponse:
    """Ten new recovery codes."""
    stepup.require(request, "factor.changed")
    fresh = second_factor.new_recovery_codes(_user(request), actor=_actor(request))
    return render(request, "accounts/recovery_codes.html", {"codes": fresh})


@require_POST
@for_users
def remove_second_factor(request: HttpRequest) -> HttpResponse:
    """Back to the mail code alone."""
    stepup.require(request, "factor.changed")
    user = _user(request)
    second_factor.remove(user, actor=_actor(request))
    user.refresh_from_db()
    _stay_logged_in(request, user)
    return redirect("account")


def _account(request: HttpRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    user = _user(request)
    context = {
        "sessions": logins.open_ones(user)[:50],
        "current": _login(request),
        "keys": api_keys.alive(user),
        "codes_left": second_factor.codes_left(user) if user.second_factor_at else 0,
        "form": KeyForm(),
        **context,
    }
    return render(request, "accounts/account.html", context, status=status)


def _enrol(request: HttpRequest, user: User, *, status: int = 200, error: str = "") -> HttpResponse:
    device = second_factor.pending(user)
    if device is None:
        return redirect("account")
    picture = segno.make(second_factor.app_url(device)).svg_data_uri(scale=5, border=2, dark="#000", light="#fff")
    context = {"picture": picture, "secret": second_factor.app_secret(device), "error": error}
    return render(request, "accounts/enrol.html", context, status=status)


def _stay_logged_in(request: HttpRequest, user: User) -> None:
    """The change has ended every session, this one too: open it anew, under a fresh key."""
    request.second_factor_shown = user.second_factor_at is not None  # type: ignore[attr-defined]
    login(request, user)


def _user(request: HttpRequest) -> User:
    return request.user  # type: ignore[return-value]


def _login(request: HttpRequest) -> Login:
    return request.login  # type: ignore[attr-defined]


def _actor(request: HttpRequest) -> Actor:
    return _user(request).as_actor(**origin_of(request))
