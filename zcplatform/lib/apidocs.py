"""How a route describes itself beyond its schemas: the errors it may answer with, and an example."""

from __future__ import annotations

from typing import Any

REF = {"$ref": "#/components/schemas/Error"}
REFUSED = {"application/json": {"schema": REF}}
ERRORS = {
    400: "The request can't be understood.",
    401: "No credential, or one that is not valid (any more).",
    403: "Your role, or your key's scopes, do not allow this.",
    404: "It does not exist, or you may not see it.",
    408: "The body did not arrive within 30 s.",
    409: "The state of things does not allow this, or it exists already.",
    413: "The request is too large.",
    422: "A field, or a parameter, can't be accepted; `details` names it.",
    429: "Too many requests; `Retry-After` says when to try again.",
    502: "What is behind the platform answered wrongly.",
    503: "Something the platform depends on does not answer; try again.",
    504: "Something the platform depends on did not answer in time.",
}


def about(
    *statuses: int, body: Any = None, answer: Any = None, status: int = 200, types: dict[int, str] | None = None
) -> dict[str, Any]:
    """For a route's ``openapi_extra``: error ``statuses`` beside those that every route has, and examples.

    ``body`` is an example of the request, ``answer`` one of the answer with ``status``; ``types`` names the error
    types that a status may have, as ``{409: "last_owner, wrong_state"}``.
    """
    named = types or {}
    responses: dict[int, Any] = {code: _error(code, named.get(code, "")) for code in sorted({*statuses, *named})}
    if answer is not None:
        responses[status] = {"content": {"application/json": {"example": answer}}}
    extra: dict[str, Any] = {"responses": responses}
    if body is not None:
        extra["requestBody"] = {"content": {"application/json": {"example": body}}}
    return extra


def _error(status: int, types: str) -> dict[str, Any]:
    words = ERRORS[status] + (f" Types: {types}." if types else "")
    first = types.partition(",")[0].strip()
    example = {"error": {"type": first, "message": ERRORS[status], "details": {}, "request_id": "8f14e45fceea167a"}}
    content = {"schema": REF, "example": example} if first else {"schema": REF}
    return {"description": words, "content": {"application/json": content}}
