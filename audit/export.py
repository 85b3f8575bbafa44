"""Rows of the audit as CSV or JSON, for whoever has to show them elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from audit.models import AuditEntry

MOST = 50_000
COLUMNS = (
    "id",
    "created_at",
    "actor_id",
    "actor_email",
    "action",
    "outcome",
    "resource_type",
    "resource_id",
    "resource_name",
    "tenant_id",
    "ip_address",
    "request_id",
    "detail",
    "previous_hash",
    "hash",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def as_csv(rows: Iterable[AuditEntry]) -> str:
    """With a header. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_harmless(value) for value in _values(row).values()])
    return out.getvalue()


def as_json(rows: Iterable[AuditEntry]) -> str:
    """An array of objects; ``detail`` is the stored text, as the hash covers it."""
    return json.dumps([_values(row) for row in rows], ensure_ascii=False)


def _values(row: AuditEntry) -> dict[str, Any]:
    named = {"detail": row.detail_json, "created_at": row.created_at.isoformat()}
    return {name: named[name] if name in named else getattr(row, name) for name in COLUMNS}


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value
