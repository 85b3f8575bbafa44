"""The one mapping from an exception to the answer that a caller gets:
``{"error": {"type", "message", "details", "request_id"}}``."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Any, NamedTuple

from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja.errors import HttpError
from ninja.errors import ValidationError as SchemaError

from zcplatform.lib.errors import ZCError
from zcplatform.lib.redact import censor, in_hand, scrub

MAX_MESSAGE = 500
MAX_FIELDS = 20
INTERNAL_TYPE = "internal_error"

# What an answer says when only its status is known, and the types of those that no ZCError has.
_BY_STATUS = {
    400: ("bad_request", "The request can't be understood."),
    401: ("unauthenticated", "Sign in first, or send a valid credential."),
    403: ("forbidden", "You may not do this."),
    404: ("not_found", "Not found."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "The request is too large."),
    422: ("invalid_field", "Some fields can't be accepted."),
    429: ("rate_limited", "Too many requests; try again later."),
    500: (INTERNAL_TYPE, "Something failed on our side. Quote the request id when you ask for help."),
    503: ("dependency_down", "Something we depend on does not answer; try again later."),
}
_BUSY = ("locked", "busy", "deadlock", "lock timeout", "could not obtain lock", "could not serialize")
_FULL = ("disk is full", "no space left")


class _Answer(NamedTuple):
    status: int
    type: str
    message: str
    details: dict[str, Any]


def to_envelope(error: BaseException, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and the body for ``error``. Of an unknown exception nothing is told but the request id."""
    answer = _answer(error)
    return answer.status, _body(answer, request_id)


def envelope_for_status(status: int, request_id: str) -> dict[str, Any]:
    """The body of an answer of which only the status is known."""
    return _body(_plain(status), request_id)


def _body(answer: _Answer, request_id: str) -> dict[str, Any]:
    error = {
        "type": answer.type,
        "message": scrub(answer.message, in_hand())[:MAX_MESSAGE],
        "details": censor(answer.details, in_hand()),
        "request_id": request_id,
    }
    return {"error": error}


def _plain(status: int, type: str = "", message: str = "") -> _Answer:
    known = _BY_STATUS.get(status)
    if known is None:
        try:
            known = (HTTPStatus(status).name.lower(), f"{HTTPStatus(status).phrase}.")
        except ValueError:
            known = ("error", "The request failed.")
    return _Answer(status, type or known[0], message or known[1], {})


def _answer(error: BaseException) -> _Answer:
    if isinstance(error, ZCError):
        return _Answer(error.status, error.type, error.message, error.details)
    if isinstance(error, OperationalError | InterfaceError | OSError):
        return _outage(error)
    if isinstance(error, SchemaError):
        return _invalid([_schema_field(item) for item in error.errors])
    if isinstance(error, ValidationError):
        return _invalid(_form_fields(error))
    if isinstance(error, HttpError):
        return _plain(error.status_code, message="" if error.status_code in (401, 403, 404) else error.message)
    return _of_django(error)


def _of_django(error: BaseException) -> _Answer:
    if isinstance(error, Http404):
        return _plain(404)
    if isinstance(error, PermissionDenied):
        return _plain(403)
    if isinstance(error, RequestDataTooBig):
        return _plain(413)
    if isinstance(error, DisallowedHost):
        return _plain(400, "unknown_host", "This host name is not one of this platform's.")
    if isinstance(error, SuspiciousOperation | BadRequest | MultiPartParserError):
        return _plain(400)
    return _plain(500)


def _outage(error: Exception) -> _Answer:
    """Faults of disk and database. Other OS errors are bugs: nothing of theirs is told."""
    text = str(error).lower()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in text for word in _FULL):
        return _plain(503, "storage_full", "The platform's storage is full; an operator has to make room.")
    if isinstance(error, UnreadablePostError):
        return _plain(400, message="The request broke off.")
    if isinstance(error, OSError):
        return _plain(500)
    if any(word in text for word in _BUSY):
        return _plain(503, "database_busy", "The database is busy; try again in a moment.")
    return _plain(503, "database_unavailable", "The database does not answer as it should; try again later.")


def _invalid(fields: list[dict[str, str]]) -> _Answer:
    # A list, not a mapping: a field called "token" would otherwise be censored together with what is wrong with it.
    return _plain(422)._replace(details={"fields": fields[:MAX_FIELDS]})


def _schema_field(item: dict[str, Any]) -> dict[str, str]:
    """One complaint of pydantic. ``loc`` is source, parameter, path; the value itself is never repeated."""
    path = [str(part) for part in item.get("loc", ())][1:]
    if len(path) > 1 and item["loc"][0] in ("body", "form"):
        path = path[1:]
    return {"field": ".".join(path)[:100], "message": str(item.get("msg", ""))[:200]}


def _form_fields(error: ValidationError) -> list[dict[str, str]]:
    by_field = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    return [{"field": field, "message": text[:200]} for field, texts in by_field.items() for text in texts]
