"""The one way to write the audit: ``record``, inside the transaction of the change and last in it."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction

from audit.actions import ACTIONS
from audit.chain import COLUMNS, GENESIS, Fault, Head, Row, Verdict, digest, verify
from audit.models import AuditEntry, Checkpoint
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import FaultError
from zcplatform.lib.redact import censor, scrub
from zcplatform.lib.request_ids import CLIENT, bound_client_request_id

OUTCOMES = ("ok", "denied", "failed")
MAX_TEXT = 4_096  # bytes, of each text inside the detail
MAX_ITEMS = 200  # of each list or object inside the detail
MAX_DETAIL = 65_536  # bytes, of the detail as a whole
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # line breaks, escape codes, bidi marks, lone surrogates
_CHAIN_LOCK = 0x5A43_4155  # one number for all writers of this table; PostgreSQL's advisory locks are numbers


class AuditError(FaultError):
    """The audit was called wrongly; the change must not happen without its row."""

    default_type = "audit_error"


@dataclass(frozen=True)
class Target:
    """What was acted on, kept as text so that the row outlives it. ``id`` is the public id."""

    type: str
    id: str
    name: str = ""


def record(
    action: str,
    *,
    actor: Actor,
    target: Target | None = None,
    tenant: str = "",
    detail: dict[str, Any] | None = None,
    outcome: str = "ok",
) -> AuditEntry:
    """Append one row to the chain; call it last in the transaction of the change it tells of.

    ``tenant`` is a tenant's public id, ``outcome`` ok, denied or failed. ``detail`` is censored: fields with the
    names of secrets and known secret values are masked. Raises AuditError for a call outside a transaction
    (``audit_outside_transaction``), an unregistered action or outcome. A row that can't be written rolls the
    caller's transaction back, even when the caller swallows the error.
    """
    if not connection.in_atomic_block:
        raise AuditError("The audit is written inside a transaction.", type="audit_outside_transaction")
    try:
        _check(action, outcome)
        about = {
            "action": action,
            "outcome": outcome,
            "tenant_id": tenant,
            "detail_json": _detail(actor, detail or {}, tenant),
        }
        return _append({**about, **_who(actor), **_what(target)})
    except BaseException:
        transaction.set_rollback(True)
        raise


def verify_chain(expected_head: Head | None = None) -> Verdict:
    """Check every row that is not archived, and that the chain vouches for what is; see ``audit.chain.verify``."""

    def read() -> Iterator[Row]:
        return AuditEntry.objects.order_by("id").values(*COLUMNS).iterator(chunk_size=2_000)

    start = chain_start()
    verdict = verify(read, expected_head, start)
    if verdict.fault is None and start.id and not _is_vouched_for(start):
        message = f"rows 1 to {start.id} were archived, and no row of the chain says so"
        return replace(verdict, fault=Fault(start.id, "removed", message))
    return verdict


def chain_start() -> Head:
    """The last row that was archived; id 0 when none was."""
    last = Checkpoint.objects.order_by("-last_id").values_list("last_id", "last_hash").first()
    return Head(*(last or (0, GENESIS)))


def _is_vouched_for(start: Head) -> bool:
    rows = AuditEntry.objects.filter(action="audit.archive", resource_id=str(start.id))
    return any(json.loads(row.detail_json).get("last") == str(start) for row in rows)


def lock_chain() -> None:
    """One writer at a time, until the end of the transaction. SQLite's IMMEDIATE transactions are that already."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])


def _check(action: str, outcome: str) -> None:
    if action not in ACTIONS:
        raise AuditError(f"{action!r} is not a registered action.", type="audit_unknown_action")
    if outcome not in OUTCOMES:
        raise AuditError(f"{outcome!r} is not one of {', '.join(OUTCOMES)}.", type="audit_unknown_outcome")


def _append(values: dict[str, Any]) -> AuditEntry:
    lock_chain()
    last_id, last_hash = _last()
    entry = AuditEntry(id=last_id + 1, created_at=clock.now(), previous_hash=last_hash)
    for name, value in values.items():
        setattr(entry, name, _fit(name, value))
    entry.hash = digest({name: getattr(entry, name) for name in COLUMNS})
    entry.save(force_insert=True)
    return entry


def _last() -> tuple[int, str]:
    """Said to the database directly: each write of the platform asks it while all others wait, and putting the question
    together took the ORM ten times as long as the answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1")
        return cursor.fetchone() or (0, GENESIS)


def _actor_id(actor: Actor) -> str:
    return actor.public_id or (str(actor.user_id) if actor.user_id is not None else actor.label)


def _who(actor: Actor) -> dict[str, str]:
    return {
        "actor_id": _actor_id(actor),
        "actor_email": actor.email,
        "ip_address": actor.ip,
        "request_id": actor.request_id,
    }


def _what(target: Target | None) -> dict[str, str]:
    if target is None:
        return {}
    return {"resource_type": target.type, "resource_id": str(target.id), "resource_name": scrub(target.name)}


def _detail(actor: Actor, detail: dict[str, Any], tenant: str) -> str:
    """The detail as ASCII JSON: a line break, an escape code or a bidi mark in it can't forge a line of a log."""
    if tenant and actor.unrestricted and actor.user_id is not None:
        detail = {"as": "super-admin", **({"reason": actor.reason} if actor.reason else {}), **detail}
    if actor.label not in (actor.email, _actor_id(actor)):
        detail = {"by": actor.label, **detail}
    if actor.request_id and (theirs := bound_client_request_id()):
        detail = {**detail, CLIENT: theirs}
    text = _json(_tidy(censor(detail)))
    if len(text) > MAX_DETAIL:
        text = _json({"truncated_bytes": len(text), "start": text[:MAX_TEXT]})
    return text


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _tidy(value: Any) -> Any:
    """``value`` within the limits on texts and items, and without the numbers that JSON does not have."""
    if isinstance(value, str):
        return _cap(value, MAX_TEXT)
    if isinstance(value, dict):
        return {_cap(name, 200): _tidy(value[name]) for name in list(value)[:MAX_ITEMS]}
    if isinstance(value, list):
        rest = len(value) - MAX_ITEMS
        return [_tidy(item) for item in value[:MAX_ITEMS]] + ([f"… and {rest} more"] if rest > 0 else [])
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _cap(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` bytes of UTF-8, with a mark where it was cut."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"


def _fit(name: str, text: str) -> str:
    """``text`` for a plain column: control and formatting characters spelled out, cut to the column's length."""
    limit = getattr(AuditEntry._meta.get_field(name), "max_length", None)
    if limit is None:
        return text
    safe = "".join(_json(char)[1:-1] if unicodedata.category(char) in _UNSAFE else char for char in text[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
