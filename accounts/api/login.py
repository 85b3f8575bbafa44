"""Logging in and out: a code by mail, a second factor, tokens."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest
from ninja import Router, Status

from accounts import codes, logins, second_factor, sign_in, tokens
from accounts.api.schemas import (
    CodeIn,
    CodeRequestIn,
    CodeRequestOut,
    MeOut,
    RefreshIn,
    SecondFactorIn,
    StepUpIn,
    TokensOut,
)
from accounts.auth import caller_of, origin_of
from accounts.models import User
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import Conflict, Unauthenticated

router = Router(tags=["logging in"])
SENT = "If there is an account with this address, a code is on its way to it."
TOKENS = {
    "access_token": "eyJhbGciOi…",
    "refresh_token": "zcr_…",
    "token_type": "Bearer",
    "expires_in": 3600,
    "second_factor_token": None,
}


@router.post(
    "/otp/request",
    auth=None,
    response={202: CodeRequestOut},
    summary="Send a login code",
    openapi_extra=about(429, body={"email": "dana@example.com"}, types={422: "invalid_email"}),
)
def request_code(request: HttpRequest, payload: CodeRequestIn) -> Any:
    """Mails a code of 6 digits that works once, for 10 minutes, for whoever asked for it: send the answer's `handle`
    with it, or send it from the same network (of IPv6, a /64), where only the newest works. A `handle` of before, sent
    here, is dead. The answer is the same whether or not the address has an account. At most 5 codes in 15 minutes for
    an address to one network, and 30 for all addresses. Where many ask for one address the mail has a code of 12
    digits, which works from anywhere."""
    handle = codes.request_code(payload.email, ip=origin_of(request)["ip"], before=payload.handle or "")
    return Status(202, {"message": SENT, "expires_in": int(codes.LIFETIME.total_seconds()), "handle": handle})


@router.post(
    "/otp/verify",
    auth=None,
    response=TokensOut,
    summary="Log in with a code",
    openapi_extra=about(
        429,
        body={"email": "dana@example.com", "code": "042917"},
        answer=TOKENS,
        types={401: "invalid_code", 422: "invalid_code_format"},
    ),
)
def verify_code(request: HttpRequest, payload: CodeIn) -> Any:
    """At most 5 tries for each code with its `handle`, and 5 without from the network that asked. Whoever
    enrolled a second factor gets only a `second_factor_token`."""
    user = codes.verify_code(payload.email, payload.code, handle=payload.handle or "", **origin_of(request))
    if user.second_factor_at:
        return {"second_factor_token": sign_in.pending_token(user)}
    return _log_in(request, user, by="code", verified=False)


@router.post(
    "/totp/verify",
    auth=None,
    response=TokensOut,
    summary="Show the second factor",
    openapi_extra=about(
        429,
        body={"token": "eyJhbGciOi…", "code": "314159"},
        answer=TOKENS,
        types={401: "invalid_token, invalid_code"},
    ),
)
def verify_second_factor(request: HttpRequest, payload: SecondFactorIn) -> Any:
    """The second step, within 5 minutes of the first: a code of the authenticator app or a recovery code."""
    user = sign_in.user_of_pending(payload.token)
    try:
        second_factor.verify(user, payload.code, ip=origin_of(request)["ip"])
    except Unauthenticated:
        sign_in.note_refusal(user, by="second factor", audit=origin_of(request))
        raise
    return _log_in(request, user, by="second factor", verified=True)


@router.post(
    "/refresh",
    auth=None,
    response=TokensOut,
    summary="Renew the tokens",
    openapi_extra=about(body={"refresh_token": "zcr_…"}, answer=TOKENS, types={401: "invalid_token"}),
)
def refresh(request: HttpRequest, payload: RefreshIn) -> Any:
    """Each refresh token is good for one exchange within 7 days. Sent a second time, it ends the session with all its
    tokens: somebody has a copy. After 90 days a person has to log in again."""
    return _told(sign_in.refresh(payload.refresh_token, audit=origin_of(request)))


@router.post("/logout", response={204: None}, summary="Log out", openapi_extra=about(types={409: "not_a_login"}))
def logout(request: HttpRequest) -> Any:
    """Ends the session that this request came by, with its tokens. An API key is revoked at `users/me/api-keys`."""
    caller = caller_of(request)
    if caller.login is None:
        raise Conflict("An API key is no session; revoke it instead.", type="not_a_login")
    with transaction.atomic():
        logins.end(logins.open_ones(caller.user).filter(pk=caller.login.pk))
        record("login.end", actor=caller.actor, target=target_of(caller.user))
    return Status(204, None)


@router.get("/me", response=MeOut, summary="Who calls", openapi_extra=about())
def me(request: HttpRequest) -> Any:
    """The account behind the credential in use, the kind of credential, and how far it reaches."""
    caller = caller_of(request)
    limit = caller.actor.limit
    return {"user": caller.user, "credential": caller.kind, "abilities": None if limit is None else sorted(limit)}


@router.post(
    "/step-up",
    response={204: None},
    summary="Show the second factor again",
    openapi_extra=about(body={"code": "314159"}, types={401: "invalid_code", 409: "not_a_login, not_enrolled"}),
)
def step_up(request: HttpRequest, payload: StepUpIn) -> Any:
    """What can't be undone asks whoever enrolled a second factor to have shown it within the last 10 minutes, and
    answers 403 `step_up_required` otherwise. Send a code here, then the request again."""
    caller = caller_of(request)
    if caller.login is None:
        raise Conflict("An API key can't show a second factor.", type="not_a_login")
    if caller.user.second_factor_at is None:
        raise Conflict("No second factor is enrolled.", type="not_enrolled")
    second_factor.step_up(caller.user, caller.login, payload.code, actor=caller.actor)
    return Status(204, None)


def _log_in(request: HttpRequest, user: User, *, by: str, verified: bool) -> dict[str, Any]:
    origin = logins.origin_of(request)
    return _told(sign_in.open_api_login(user, by=by, verified=verified, origin=origin, audit=origin_of(request)))


def _told(issued: sign_in.Tokens) -> dict[str, Any]:
    seconds = int(tokens.LIFETIMES[tokens.ACCESS].total_seconds())
    return {
        "access_token": issued.access.reveal(),
        "refresh_token": issued.refresh.reveal(),
        "expires_in": seconds,
    }
