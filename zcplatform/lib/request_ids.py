"""Two ids of a request, which never change places: ours, made here, and the one that a caller may send with it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import structlog

CLIENT = "client_request_id"
"""The name of the caller's in logs and in the audit's detail."""

_HARMLESS = re.compile(r"[A-Za-z0-9_-]{1,64}")


def client_request_id(given: str) -> Mapping[str, str]:
    """What to bind for a caller's header ``X-Request-ID``: nothing for one that is long, or could forge a line."""
    return {CLIENT: given} if _HARMLESS.fullmatch(given) else {}


def bound_client_request_id() -> str:
    """The caller's id of the request that is being answered; empty outside of one, or where none came."""
    return str(structlog.contextvars.get_contextvars().get(CLIENT, ""))
