"""The OpenAPI document: what ninja makes of the routes, and what is true of all of them."""

from __future__ import annotations

from typing import Any

from zcplatform.lib.apidocs import ERRORS, REF, REFUSED
from zcplatform.lib.schemas import Error

DESCRIPTION = """
Drives the platform: tenants, their agents, members and configuration.

**Authentication.** Send `Authorization: Bearer …` with a personal API key (`zck_…`) or an access token from
`POST /api/auth/otp/verify`. Pages of the platform itself may use their session with its CSRF token.

**Errors** have one form: `{"error": {"type", "message", "details", "request_id"}}`. `type` is stable. What you may not
see answers exactly like what does not exist: 404.

**Lists** are read by cursor: `limit` (at most 200), `cursor`, `order`.

**Writes** that say so take an `Idempotency-Key`. A super-admin who acts in a tenant may say why in `X-Reason`; it
stands in the tenant's audit trail.

**Rate limits** stand in `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds); 429 comes with
`Retry-After`.
""".strip()


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the envelope as a schema, and the errors that any route may answer with."""
    schemas = document["components"].setdefault("schemas", {})
    whole = Error.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= whole.pop("$defs")
    schemas["Error"] = whole
    for operations in document["paths"].values():
        for operation in operations.values():
            _add_errors(operation)
    return document


def _add_errors(operation: dict[str, Any]) -> None:
    statuses = {400, 422} if operation.get("parameters") or "requestBody" in operation else set()
    statuses |= {400, 401, 403, 429} if "security" in operation else set()
    if "requestBody" in operation:
        statuses |= {408, 413}
    if any(parameter.get("name") == "Idempotency-Key" for parameter in operation["parameters"]):
        statuses.add(409)
    for status in sorted(statuses | {422, 503}):
        operation["responses"].setdefault(status, {"description": ERRORS[status], "content": REFUSED})
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            answer["content"] = {"application/json": {"schema": REF, **_examples(answer)}}


def _examples(answer: dict[str, Any]) -> dict[str, Any]:
    content = answer.get("content", {}).get("application/json", {})
    return {name: content[name] for name in ("example", "examples") if name in content}
