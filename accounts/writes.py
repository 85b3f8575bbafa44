"""``@idempotent``: a write of the API that takes the header ``Idempotency-Key``.

    @router.post("", response={201: TenantOut})
    @idempotent
    def create(request, payload: TenantIn): ...

With the header, the whole operation runs in one transaction together with the memory of its answer (see
``accounts.idempotency``), so it may do no more than write to the database: leave it off what calls the network. A
refusal (4xx) is committed, for the audit of it is part of it, but not remembered: the key is free again. A fault (5xx)
is rolled back.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja.decorators import decorate_view
from ninja.utils import contribute_operation_callback

from accounts import stepup
from accounts.auth import Caller, Credentials, actor_of
from accounts.grants import Grant, check
from accounts.idempotency import Answer, fingerprint_of, run_once
from zcplatform.lib.errors import ZCError

View = TypeVar("View", bound=Callable[..., Any])
Run = Callable[..., HttpResponse]
HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "1 to 128 printable ASCII characters. The same request sent again within 24 hours is answered with "
    "the first answer (without the secrets in it) and has no second effect.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    "example": "5f2b0c1e-create-acme",
}


def idempotent(view: View) -> View:
    """Let the operation take an ``Idempotency-Key``; to stand below the router's decorator."""

    def document(operation: Any) -> None:
        extra = operation.openapi_extra or {}
        operation.openapi_extra = {**extra, "parameters": [*extra.get("parameters", []), HEADER]}

    contribute_operation_callback(view, document)
    return decorate_view(_remembered)(view)


class _Fault(Exception):
    """Carries a 5xx out of the transaction."""

    def __init__(self, response: HttpResponse) -> None:
        self.response = response


def _remembered(run: Run) -> Run:
    @functools.wraps(run)
    def wrapped(request: HttpRequest, **path: Any) -> HttpResponse:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return run(request, **path)
        try:
            caller = Credentials()(request)
        except ZCError:
            return run(request, **path)  # which gives the refusal its form
        # Path values may be parsed anew by the operation; the caller has been found and is not looked for twice.
        return _once(run, request, path, scope=_scope(caller, request), key=key)

    return wrapped


def _once(run: Run, request: HttpRequest, path: dict[str, Any], *, scope: str, key: str) -> HttpResponse:
    fresh: list[HttpResponse] = []

    def act() -> Answer:
        response = run(request, **path)
        if response.status_code >= 500:
            raise _Fault(response)
        fresh.append(response)
        return response.status_code, json.loads(response.content) if response.content else None

    fingerprint = fingerprint_of(request.method or "", request.get_full_path(), request.body)
    try:
        status, body, replayed = run_once(scope, key, fingerprint, act, allow=lambda grants: _allow(request, grants))
    except _Fault as fault:
        return fault.response
    return _again(status, body) if replayed else fresh[0]


def _again(status: int, body: Any) -> HttpResponse:
    response = HttpResponse(status=status) if body is None else JsonResponse(body, status=status, safe=False)
    response["Idempotency-Replayed"] = "true"
    return response


def _allow(request: HttpRequest, grants: list[Grant]) -> None:
    """The answer belongs to who may do the act now: membership, role and second factor may have changed since."""
    check(actor_of(request), [grant for grant in grants if grant[0] != stepup.GRANT])
    for _, effect, _ in (grant for grant in grants if grant[0] == stepup.GRANT):
        stepup.require(request, effect)


def _scope(caller: Caller, request: HttpRequest) -> str:
    """The keys of one credential, as far as it reaches, on one route are nobody else's."""
    limit = "*" if caller.actor.limit is None else ",".join(sorted(caller.actor.limit))
    route = hashlib.sha256(f"{limit} {request.path}".encode()).hexdigest()[:32]
    return f"{caller.user.public_id} {caller.kind} {caller.credential} {request.method} {route}"
