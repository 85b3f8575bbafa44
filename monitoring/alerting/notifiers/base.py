"""The contract of a notifier kind, and what those that speak HTTP share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from tenants.fields import Field
from tenants.models import Tenant
from zcplatform.lib import http
from zcplatform.lib.errors import BadUpstream, DependencyDown
from zcplatform.lib.redact import SecretStr

SEND_S = 10.0
MAX_ANSWER = 65_536
MAX_PAUSE_S = 3_600
_LATER = frozenset({408, 425, 429, *range(500, 600)})


@dataclass(frozen=True)
class Address:
    """Where one message goes. ``secret`` is the kind's secret field, opened, or empty; ``delivery`` is the same id in
    every try, by which a receiver knows a message that it had already; ``tenant`` is whose notifier it is, None for
    the platform's."""

    config: dict[str, Any]
    secret: SecretStr
    delivery: str
    tenant: Tenant | None = None


class NotifierKind(Protocol):
    """One way to tell somebody. ``fields`` are its configuration, of which at most one is secret, in the vault."""

    name: str
    label: str
    fields: tuple[Field, ...]

    def check(self, values: dict[str, Any]) -> None:
        """InvalidField for values that the fields alone can't judge. Connects to nothing."""

    def make_secret(self) -> SecretStr | None:
        """A secret for a new notifier that was given none; None where the user has to give it."""

    def send(self, to: Address, message: dict[str, Any]) -> None:
        """Hand the message over; it may arrive twice when the answer was lost.

        A DependencyDown is worth another try, after ``details['retry_after']`` seconds where it says so; any other
        ZCError is not. Never quotes the secret or the other side's answer. Call it outside a transaction.
        """


class Refused(BadUpstream):
    """The receiver says no, and would say so again."""

    default_type = "notifier_refused"


def post(url: str, content: bytes, headers: dict[str, str]) -> None:
    """POST and look at the answer's status alone. Errors as ``NotifierKind.send`` says."""
    try:
        reply = http.request("POST", url, headers=headers, content=content, total_s=SEND_S, max_bytes=MAX_ANSWER)
    except BadUpstream as error:
        # It may have arrived. A second message is better than none.
        raise DependencyDown(error.message, type=error.type) from error
    if reply.ok:
        return
    if reply.status in _LATER:
        message = f"The receiver answered {reply.status}."
        raise DependencyDown(message, type="notifier_unavailable", retry_after=_retry_after(reply))
    raise Refused(f"The receiver answered {reply.status}.")


def post_json(url: str, body: dict[str, Any]) -> None:
    """``post`` of a JSON object."""
    post(url, dump(body), {"Content-Type": "application/json"})


def dump(body: dict[str, Any]) -> bytes:
    """JSON in ASCII: nothing that a tenant wrote reaches the other side as anything but an escaped character."""
    return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _retry_after(reply: http.Reply) -> int:
    given = reply.headers.get("retry-after", "")
    return min(int(given), MAX_PAUSE_S) if given.isascii() and given.isdigit() and len(given) < 9 else 0
