"""Agents that end and are started again by their engine, over and over, and answer in between: no probe sees that.

Each minute tells whether an agent lives another life than the minute before. A new life counts two, a steady minute
takes one off, so that one that ends every two minutes or oftener is found out within a quarter of an hour, and one that
ends now and then is not.
"""

from __future__ import annotations

from collections.abc import Collection

from monitoring.models import HealthState
from zcplatform.lib import clock

NEW_LIFE, STEADY = 2, -1
LIMIT, MOST = 8, 10


def note(reborn: Collection[int], steady: Collection[int]) -> None:
    """Keep count, by tenants' primary keys; within the caller's transaction. Writes nothing for a steady fleet."""
    known = {row.tenant_id: row for row in HealthState.objects.filter(evidence__has_key="flaps")}
    for key in reborn:
        _add(key, known.get(key), NEW_LIFE)
    for key in known.keys() & set(steady):
        _add(key, known[key], STEADY)


def _add(tenant_id: int, row: HealthState | None, points: int) -> None:
    if row is None:
        row, _ = HealthState.objects.get_or_create(tenant_id=tenant_id, defaults={"since": clock.now()})
    row.evidence = with_flaps(row.evidence, min(MOST, flaps_of(row.evidence) + points))
    row.save(update_fields=["evidence"])


def flaps_of(evidence: dict[str, object] | None) -> int:
    """The points so far."""
    value = (evidence or {}).get("flaps", 0)
    return value if isinstance(value, int) else 0


def with_flaps(evidence: dict[str, object], flaps: int) -> dict[str, object]:
    """``evidence`` with so many points; none are not written."""
    rest = {name: value for name, value in evidence.items() if name != "flaps"}
    return {**rest, "flaps": flaps} if flaps > 0 else rest
