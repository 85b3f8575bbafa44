"""One injected UTC clock. Leases do not use it: they compare with the database's own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

MINUTE = "%Y-%m-%d %H:%M"
_source: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731


def now() -> datetime:
    """The time of day, timezone-aware, in UTC."""
    return _source()


def in_words(moment: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of day as it is told to people: in UTC, and named so. ``form`` is one of ``strftime``."""
    return f"{moment.astimezone(UTC):{form}} UTC"


@contextmanager
def use(source: Callable[[], datetime]) -> Iterator[None]:
    """Read the time from ``source`` inside the block; for tests."""
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before
