"""Values as people read them: with their unit, and spans of time in the largest one that fits."""

from __future__ import annotations

YES_OR_NO = "0 or 1"
_SPANS = ((3_600, "h"), (60, "min"))


def with_unit(value: float, unit: str) -> str:
    """A measured value: ``93.25 %``, ``3 tenants``, ``26.3 h``; of what either is or is not, ``yes`` or ``no``."""
    if unit == YES_OR_NO:
        return "yes" if value else "no"
    if unit == "s":
        length, name = next(((length, name) for length, name in _SPANS if value >= 2 * length), (1, "s"))
        return f"{round(value / length, 1):g} {name}"
    return f"{value:.6g} {unit}".rstrip()


def limit(value: float, unit: str) -> str:
    """What a value is compared with, to the second: ``80 %``, ``26 h``, ``90 s``."""
    if unit != "s":
        return f"{value:g}" if unit == YES_OR_NO else f"{value:g} {unit}".rstrip()
    length, name = next(((length, name) for length, name in _SPANS if value and value % length == 0), (1, "s"))
    return f"{value / length:g} {name}"
