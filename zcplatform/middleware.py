"""What every request passes: security headers, the request's log line and id, errors in the one envelope."""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django_structlog.middlewares import RequestMiddleware

from zcplatform.lib.client_ip import client_ip
from zcplatform.lib.envelope import INTERNAL_TYPE, envelope_for_status, to_envelope
from zcplatform.lib.errors import Overloaded
from zcplatform.lib.request_ids import client_request_id

log = structlog.get_logger(__name__)

_PROGRAMS = re.compile(r"/(?:api|v1|t|metrics|health|healthz|readyz)(?:/.*)?", re.DOTALL)
_PERMISSIONS = "accelerometer=(), camera=(), geolocation=(), gyroscope=(), microphone=(), payment=(), usb=()"

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class HeadersMiddleware:
    """The headers that Django has no setting for; a view's own Cache-Control is left alone."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.policy = "; ".join(f"{name} {value}" for name, value in settings.CONTENT_SECURITY_POLICY.items())

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        response.headers.setdefault("Cache-Control", "no-store, private")
        return response


class RequestLogMiddleware(RequestMiddleware):
    """django-structlog's middleware, without query strings, with a request id that is made here.

    What a caller sends as ``X-Request-ID`` is a field beside it, in the log and in the audit. Sets
    ``request.request_id`` and ``request.client_ip``; answers with ``X-Request-ID``.
    """

    def prepare(self, request: HttpRequest) -> None:
        """Name the request: two of them never share an id, whatever their callers say."""
        theirs = client_request_id(request.META.get("HTTP_X_REQUEST_ID", ""))
        request.META.pop("HTTP_X_CORRELATION_ID", None)  # which would be logged as it comes
        request.META["HTTP_X_REQUEST_ID"] = request.request_id = secrets.token_hex(16)  # type: ignore[attr-defined]
        request.client_ip = client_ip(  # type: ignore[attr-defined]
            request.META.get("REMOTE_ADDR", ""),
            request.META.get("HTTP_X_FORWARDED_FOR", ""),
            behind_proxy=settings.BEHIND_PROXY,
            own=settings.BIND,
        )
        super().prepare(request)
        structlog.contextvars.bind_contextvars(**theirs)

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        """Name the request in its answer, then log it."""
        response["X-Request-ID"] = request_id_of(request)
        super().handle_response(request, response)

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """Method and path; what stands in a query string is nobody's business."""
        return f"{request.method} {request.path}"

    @staticmethod
    def bind_user_id(request: HttpRequest) -> None:
        """Name the user when somebody has asked for it already: a log line is not worth a query."""
        user = getattr(request, "_cached_user", None)
        if user is not None and user.is_authenticated:
            structlog.contextvars.bind_contextvars(user_id=str(user.public_id))


class EnvelopeMiddleware:
    """Errors leave as the envelope for programs and as a page for people, whoever raised or made them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code < 400 or not wants_json(request) or not _is_html(response):
            return response
        body = envelope_for_status(response.status_code, request_id_of(request))
        envelope = JsonResponse(body, status=response.status_code)
        for name in ("Allow", "Retry-After"):
            if name in response.headers:
                envelope[name] = response.headers[name]
        return envelope

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for an exception of a view. None leaves it to Django: its page for developers, in DEBUG only."""
        if wants_json(request):
            return json_error(request, error)
        status, body = to_envelope(error, request_id_of(request))
        if settings.DEBUG and body["error"]["type"] == INTERNAL_TYPE:
            return None
        _log(error, status, body["error"]["type"])
        return error_page(request, status, body["error"])


def wants_json(request: HttpRequest) -> bool:
    """Whether a program asks: by the address, or because it prefers JSON."""
    if is_for_programs(request.path):
        return True
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def is_for_programs(path: str) -> bool:
    """Whether no page lives there."""
    return _PROGRAMS.fullmatch(path) is not None


def request_id_of(request: HttpRequest) -> str:
    """The id that ``RequestLogMiddleware`` gave, or an empty string for a request that did not pass it."""
    return getattr(request, "request_id", "")


def json_error(request: HttpRequest, error: Any) -> HttpResponse:
    """The envelope for ``error``, which is logged when it is ours."""
    status, body = to_envelope(error, request_id_of(request))
    _log(error, status, body["error"]["type"])
    response = JsonResponse(body, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    retry_after = body["error"]["details"].get("retry_after")
    if isinstance(retry_after, int | float):
        response["Retry-After"] = str(max(1, round(retry_after)))
    return response


def error_page(request: HttpRequest | None, status: int, error: dict[str, Any]) -> HttpResponse:
    """The page for ``status``; it needs neither session nor database."""
    busy = error["type"] in (Overloaded.default_type, "database_busy")
    name = status if status in (400, 403, 404) else 400 if status < 500 else 503 if busy else 500
    return render(None, f"zcplatform/{name}.html", {"error": error, "status": status}, status=status)


@functools.cache
def busy_page() -> bytes:
    """What a person reads when their request was shed. Made once: it has to cost nothing when it is needed."""
    status, body = to_envelope(Overloaded(), "")
    return error_page(None, status, body["error"]).content


def _log(error: Exception, status: int, type: str) -> None:
    if type == INTERNAL_TYPE:
        log.error("unexpected_error", exc_info=error)
    elif status >= 500:
        log.warning("fault", type=type, exc_info=error)


def _is_html(response: HttpResponseBase) -> bool:
    return response.headers.get("Content-Type", "text/html").startswith("text/html")
