"""Following a container's log by the times that the engine gave its lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tenants.runtimes.base import LogPart

PART_MAX = 1_048_576
WHOLE_MAX = 4 * 1_048_576
READ_MAX = 64 * 1_048_576
TAIL = 4_000
"""Lines that are asked for at a time; the engine finds them from the end."""
BEGINNING = "0.000000000"


def newest(pieces: Any, limit: int) -> tuple[list[bytes], bool]:
    """The last lines of what the engine streams, ``limit`` bytes of them, and whether there were others before them.
    No more is held at a time, and at most 64 MB are looked at: an agent may write faster than anybody reads."""
    kept, size, seen, cut = deque[bytes](), 0, 0, False
    for piece in pieces:
        for line in _lines(piece):
            kept.append(line)
            size += len(line)
        while size > limit:
            size, cut = size - len(kept.popleft()), True
        seen += len(piece)
        if seen > READ_MAX:
            break
    return list(kept), cut


def _lines(piece: bytes) -> list[bytes]:
    """A line ends with a line feed and nowhere else: after a carriage return an agent could print a time of its own
    making, and whoever follows would wait for lines after that one."""
    found = [line + b"\n" for line in piece.split(b"\n")]
    found[-1] = found[-1][:-1]
    return found if found[-1] else found[:-1]


def with_times(raw: Sequence[bytes]) -> bytes:
    """Lines that begin with the engine's time of them, with ours instead."""
    return _told([_parted(line) for line in raw], times=True)


def _told(lines: Iterable[tuple[str, bytes]], *, times: bool) -> bytes:
    """The engine tells a long line in several pieces, each with a time: the first of them is the line's."""
    told, ended = [], True
    for time, text in lines:
        told.append(_in_words(time) + text if times and ended else text)
        ended = text.endswith(b"\n")
    return b"".join(told)


def _in_words(mark: str) -> bytes:
    seconds, _, fraction = mark.partition(".")
    moment = datetime.fromtimestamp(int(seconds), UTC) if mark else None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction[:3]}Z ".encode() if moment else b"- "


def part_after(raw: Sequence[bytes], mark: str, *, cut: bool = False, times: bool = False) -> LogPart:
    """What came after ``mark`` of lines that begin with their time. The engine's ``since`` is exact to a second only,
    so what was seen already is left out here. ``cut`` says that the beginning is missing from ``raw``."""
    lines = [(time, text) for line in raw for time, text in [_parted(line)] if time]
    last = max([mark or BEGINNING, *(time for time, _ in lines)], key=_order)
    if not mark:
        return LogPart("", last)
    text = _told((line for line in lines if _order(line[0]) > _order(mark)), times=times)
    missed = cut and bool(lines) and _order(lines[0][0]) > _order(mark)
    return LogPart(text.decode("utf-8", "replace"), last, missed)


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
