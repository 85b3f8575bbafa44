"""Who calls the API. One credential per request: a bearer (access token or API key), or a browser's session.

A session counts for a write only with its CSRF token. A request with two credentials that could speak for different
people is refused: which of them was meant is not ours to guess. Everything is read from the database each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest
from ninja.utils import check_csrf

from accounts import api_keys, logins, tokens
from accounts.models import Login, User
from accounts.permissions import abilities_in
from accounts.rates import permits
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, RequestError, Unauthenticated

SESSION, TOKEN, KEY = "session", "token", "key"
MAX_REASON = 200
"""Characters of the header ``X-Reason``, in which a super-admin may say why they act in a tenant."""


@dataclass(frozen=True)
class Caller:
    """Who calls, and by what: ``kind`` is session, token or key, ``credential`` the public id of its row."""

    actor: Actor
    user: User
    kind: str
    credential: str
    stamp: int
    login: Login | None = None


class Credentials:
    """The authentication of the whole API, and its rate limit: ``NinjaAPI(auth=Credentials())``.

    It raises what is wrong, so that there is never a second kind of credential to fall back to. It serves synchronous
    operations; an event stream is one that answers with a StreamingHttpResponse over an async generator.
    """

    openapi_security_schema = {"type": "http", "scheme": "bearer"}

    def __call__(self, request: HttpRequest) -> Caller:
        caller = getattr(request, "caller", None)
        if caller is None:
            caller = request.caller = authenticate(request)  # type: ignore[attr-defined]
            request.rate = permits.take(str(caller.user.public_id))  # type: ignore[attr-defined]
        return caller


def authenticate(request: HttpRequest) -> Caller:
    """The caller. Unauthenticated, Forbidden ``csrf_failed``, RequestError ``ambiguous_credentials``."""
    caller = _identify(request)
    reason = "".join(char for char in request.headers.get("X-Reason", "")[:MAX_REASON] if char.isprintable())
    return replace(caller, actor=replace(caller.actor, reason=reason)) if reason else caller


def _identify(request: HttpRequest) -> Caller:
    header = request.META.get("HTTP_AUTHORIZATION")
    user = request.user if isinstance(request.user, User) else None
    if header is None:
        return _by_session(request, user)
    caller = _by_bearer(request, header)
    if user is not None and user.pk != caller.user.pk:
        raise _ambiguous("The bearer and the session cookie are of different users; send one of them.")
    return caller


def caller_of(request: HttpRequest) -> Caller:
    """The caller of an authenticated request."""
    return request.caller  # type: ignore[attr-defined]


def actor_of(request: HttpRequest) -> Actor:
    """The caller as services and the audit know them."""
    return caller_of(request).actor


def origin_of(request: HttpRequest) -> dict[str, str]:
    """Where a request comes from, as the audit keeps it."""
    return {"ip": getattr(request, "client_ip", ""), "request_id": getattr(request, "request_id", "")}


def still_valid(request: HttpRequest) -> bool:
    """Whether the credential that opened this request would still be accepted, by the database as it is now.

    For event streams: ask every few seconds and end the stream on False (in async code through ``sync_to_async``).
    It does not say whether the user may still see what is streamed; ask ``tenants.access.can`` with a fresh look too.
    """
    caller = caller_of(request)
    if caller.kind == KEY:
        return api_keys.is_valid(caller.credential)
    row = logins.live(caller.credential).values_list("user__stamp", flat=True).first()
    return row is not None and row == caller.stamp


def _by_bearer(request: HttpRequest, header: str) -> Caller:
    if "," in header:  # two headers arrive joined by a comma, which stands in no credential of ours
        raise _ambiguous("There is more than one Authorization header.")
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value:
        raise Unauthenticated("Send the header “Authorization: Bearer …”.", type="invalid_token")
    return _by_key(request, value) if value.startswith(api_keys.PREFIX) else _by_token(request, value)


def _by_key(request: HttpRequest, value: str) -> Caller:
    key = api_keys.find(value)
    if key is None:
        raise tokens.invalid()
    api_keys.touch(key)
    actor = replace(key.user.as_actor(**origin_of(request)), limit=abilities_in(key.scopes))
    return Caller(actor, key.user, KEY, str(key.public_id), key.stamp)


def _by_token(request: HttpRequest, value: str) -> Caller:
    claims = tokens.read(value, tokens.ACCESS)
    login = logins.live(_uuid(claims.get("login"))).first()
    if login is None or str(login.user.public_id) != claims["sub"] or login.user.stamp != claims["stamp"]:
        raise tokens.invalid()
    return _by_login(request, login, TOKEN)


def _by_session(request: HttpRequest, user: User | None) -> Caller:
    if user is None:
        raise Unauthenticated("Sign in first, or send a valid credential.")
    if check_csrf(request) is not None:
        raise Forbidden("This request lacks the page's CSRF token, or comes from elsewhere.", type="csrf_failed")
    return _by_login(request, request.login, SESSION)  # type: ignore[attr-defined]


def _by_login(request: HttpRequest, login: Login, kind: str) -> Caller:
    user = login.user
    if user.second_factor_at and login.verified_at is None:
        raise Unauthenticated("Log in again, with your second factor.", type="second_factor_required")
    logins.touch(login, request)
    return Caller(user.as_actor(**origin_of(request)), user, kind, str(login.public_id), user.stamp, login)


def _uuid(value: Any) -> str:
    """The claim when it is a text at all; a token of ours always has one."""
    if not isinstance(value, str):
        raise tokens.invalid()
    return value


def _ambiguous(message: str) -> RequestError:
    return RequestError(message, type="ambiguous_credentials")
