"""Following a container's log by the times that the engine gave its lines."""

from __future__ import annotations

from datetime import UTC, datetime

from tenants.runtimes.base import LogPart

PART_MAX = 1_048_576
BEGINNING = "0.000000000"


def part_after(raw: bytes, mark: str) -> LogPart:
    """What came after ``mark`` of lines that begin with their time. The engine's ``since`` is exact to a second only,
    so what was seen already is left out here."""
    lines = [(time, text) for line in raw.splitlines(keepends=True) for time, text in [_parted(line)] if time]
    last = max([mark or BEGINNING, *(time for time, _ in lines)], key=_order)
    if not mark:
        return LogPart("", last)
    text, reached = b"", mark
    for time, line in lines:
        if _order(time) > _order(mark):
            text, reached = text + line, max(reached, time, key=_order)
            if len(text) >= PART_MAX:
                break
    return LogPart(text.decode("utf-8", "replace"), reached)


def _parted(line: bytes) -> tuple[str, bytes]:
    """``2026-01-31T12:00:00.123456789Z text`` as seconds with nanoseconds, and the text."""
    time, _, text = line.partition(b" ")
    moment, _, fraction = time.decode("ascii", "replace").rstrip("Z").partition(".")
    try:
        seconds = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return "", line
    return f"{seconds}.{fraction:0<9.9}", text


def _order(mark: str) -> tuple[int, str]:
    seconds, _, fraction = mark.partition(".")
    return int(seconds), fraction
