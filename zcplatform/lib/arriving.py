"""How much of the bodies that are still on their way one process keeps in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zcplatform.lib.errors import Overloaded

SMALL = 65_536
"""Bytes that anybody may have here: so much of a body is not counted, and who sends little is never put off."""
AT_ONCE, OF_ONE = 64 * 1_048_576, 16 * 1_048_576
"""Bytes of all bodies together, and of those of one caller. Without a bound, a few hundred strangers who hold back the
last byte of theirs fill the memory."""


class Arriving:
    """For one process and its one event loop."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def of(self, caller: str) -> Iterator[Callable[[int], None]]:
        """Stands around the arrival of one body: call what is given with the number of bytes that are here by now. It
        raises Overloaded where that is more than there is room for."""
        mine = 0

        def here(size: int) -> None:
            nonlocal mine
            more = size - mine if size > SMALL else 0
            if more and (self._total + more > AT_ONCE or self._held[caller] + more > OF_ONE):
                raise Overloaded
            mine += more
            self._add(caller, more)

        try:
            yield here
        finally:
            self._add(caller, -mine)

    def _add(self, caller: str, size: int) -> None:
        self._total += size
        self._held[caller] += size
        if not self._held[caller]:
            del self._held[caller]
