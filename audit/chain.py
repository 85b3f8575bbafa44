"""The hash chain: pure functions. Each row's hash covers its columns and the hash of the row before it.

Ids are consecutive and follow from the position, so they need not be hashed: ``verify`` demands both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

GENESIS = "0" * 64
COVERED = (
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
    "detail_json",
    "previous_hash",
)
COLUMNS = ("id", *COVERED, "hash")

Row = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """The last row of a chain; kept outside the host, it proves that no tail was cut. An empty chain has id 0."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """``ID:HASH`` as ``audit_verify`` prints it; ValueError otherwise."""
        number, _, digest = text.strip().partition(":")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or not number.isdecimal():
            raise ValueError("expected ID:HASH, as audit_verify prints it")
        return cls(int(number), digest)


@dataclass(frozen=True)
class Fault:
    """The first bad row. ``kind`` is altered, removed, inserted, reordered or cut."""

    row: int
    kind: str
    message: str


@dataclass(frozen=True)
class Verdict:
    count: int
    head: Head
    fault: Fault | None = None


def digest(row: Row) -> str:
    """SHA-256, in hex, of the canonical JSON of every covered column."""
    covered = {name: _canonical(row[name]) for name in COVERED}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(read: Callable[[], Iterable[Row]], expected_head: Head | None = None, start: Head | None = None) -> Verdict:
    """Walk the chain in constant memory and name the first bad row.

    ``read`` opens the rows in the order of their ids; it is called once more when a broken link has to be
    explained. ``expected_head`` is a head seen earlier: it must still stand in the chain, or before ``start``, the last
    row that was archived.
    """
    start = start or Head(0, GENESIS)
    count, head, seen = 0, start, expected_head is None or expected_head.id <= start.id
    if expected_head is not None and expected_head.id == start.id != 0 and expected_head.hash != start.hash:
        message = f"row {start.id}, the last that was archived, is not the row of the expected head"
        return Verdict(count, head, Fault(start.id, "altered", message))
    for row in read():
        fault = _check(row, head, read, start)
        if fault is None and expected_head is not None and row["id"] == expected_head.id:
            seen = True
            if row["hash"] != expected_head.hash:
                fault = Fault(row["id"], "altered", f"row {row['id']} is not the row of the expected head")
        if fault:
            return Verdict(count, head, fault)
        count, head = count + 1, Head(row["id"], row["hash"])
    if expected_head is not None and not seen:
        message = f"rows {head.id + 1} to {expected_head.id} were cut off the end"
        return Verdict(count, head, Fault(head.id + 1, "cut", message))
    return Verdict(count, head)


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


def _check(row: Row, head: Head, read: Callable[[], Iterable[Row]], start: Head) -> Fault | None:
    if digest(row) != row["hash"]:
        return Fault(row["id"], "altered", f"row {row['id']} was altered: its hash does not fit its content")
    if row["previous_hash"] != head.hash:
        return _explain(row, head, read, start)
    if row["id"] != head.id + 1:
        return Fault(row["id"], "altered", f"row {row['id']} was renumbered: it follows row {head.id} in the chain")
    return None


def _explain(row: Row, head: Head, read: Callable[[], Iterable[Row]], start: Head) -> Fault:
    """Why ``row`` is not the child of ``head``: where its own parent and the true child of ``head`` stand."""
    parent = start.id if row["previous_hash"] == start.hash else None
    child = None
    for other in read():
        if other["hash"] == row["previous_hash"]:
            parent = other["id"]
        if other["previous_hash"] == head.hash and other["id"] > row["id"]:
            child = other["id"]
    if parent is not None and parent < head.id:
        return Fault(parent + 1, "inserted", f"row {parent + 1} was inserted: row {row['id']} follows row {parent}")
    if parent is not None:
        return Fault(row["id"], "reordered", f"row {row['id']} was reordered: it belongs after row {parent}")
    if child is not None:
        return Fault(row["id"], "inserted", f"row {row['id']} was inserted: row {child} follows row {head.id}")
    if row["id"] > head.id + 1:
        return Fault(head.id + 1, "removed", f"rows {head.id + 1} to {row['id'] - 1} were removed")
    broken = f"row {head.id} was rewritten, or what stood between it and row {row['id']} was removed"
    return Fault(row["id"], "removed", broken)
