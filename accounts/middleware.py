"""The user of a browser's session, for as long as its login is open."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode, urlsplit

from asgiref.sync import sync_to_async
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare
from django.utils.functional import SimpleLazyObject

from accounts import logins
from accounts.models import Login, User
from zcplatform.lib.errors import Forbidden


class LoginMiddleware(AuthenticationMiddleware):
    """In the place of Django's: the user is found by way of the session's login, so that both cost one query.

    Sets ``request.user`` and, once somebody has asked for the user, ``request.login``.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Nothing is read before somebody asks."""
        request.user = SimpleLazyObject(lambda: user_of(request))  # type: ignore[assignment]
        request.auser = partial(sync_to_async(user_of), request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Whoever has to show their second factor again does so on a page, and comes back. Routes of the API answer
        for themselves."""
        of_the_api = hasattr(request, "caller")  # also where a remembered answer is asked for, outside of its routes
        if of_the_api or not (isinstance(error, Forbidden) and error.type == "step_up_required"):
            return None
        came_from = urlsplit(request.headers.get("referer", "")).path
        place = request.get_full_path() if request.method == "GET" else came_from or "/account"
        return redirect(f"/login/again?{urlencode({'next': place})}")


def user_of(request: HttpRequest) -> User | AnonymousUser:
    """The session's user; a session whose login has ended, or was made before its user's stamp, is emptied."""
    if not hasattr(request, "_cached_user"):
        login = _login_of(request)
        if login is None and SESSION_KEY in request.session:
            request.session.flush()
        if login is not None:
            request.login = login  # type: ignore[attr-defined]
            logins.touch(login, request)
        request._cached_user = login.user if login else AnonymousUser()  # type: ignore[attr-defined]
    return request._cached_user  # type: ignore[attr-defined]


def _login_of(request: HttpRequest) -> Login | None:
    public_id = request.session.get(logins.SESSION_NAME)
    login = logins.live(public_id).first() if public_id else None
    if login is None or request.session.get(SESSION_KEY) != str(login.user_id):
        return None
    if login.user.second_factor_at and login.verified_at is None:
        return None
    given = request.session.get(HASH_SESSION_KEY, "")
    hashes = (login.user.get_session_auth_hash(), *login.user.get_session_auth_fallback_hash())
    return login if any(constant_time_compare(given, known) for known in hashes) else None
