"""How much of requests' bodies one process keeps, in memory and on its disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile

from django.conf import settings

from zcplatform.lib.errors import Overloaded
from zcplatform.lib.home import run_folder

SMALL = 65_536
"""Bytes that anybody may have here: so much of a body is not counted, and who sends little is never put off."""
AT_ONCE, OF_ONE = 64 * 1_048_576, 16 * 1_048_576
"""Bytes of all bodies together, and of those of one caller. Without a bound, a few hundred strangers who hold back the
last byte of theirs fill the memory."""


LARGE_AT_ONCE, LARGE_OF_ONE = 256 * 1_048_576, 128 * 1_048_576
"""The same for the bodies of those who have shown a token, and until they are answered."""
SPOOL_FROM = 1_048_576
"""Bytes: what is larger waits for its end in a file."""


class Spool:
    """A body on its way. The file has no name, and goes with the process."""

    def __init__(self) -> None:
        folder = run_folder(Path(settings.HOME))
        self._file = SpooledTemporaryFile(max_size=SPOOL_FROM, dir=str(folder))  # noqa: SIM115 - closed by ``close``
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Overloaded when the disk has no room for it."""
        self.size += len(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise Overloaded from error

    def content(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()


class Arriving:
    """For one process and its one event loop; for those with a token when it is ``large``."""

    def __init__(self, *, large: bool = False) -> None:
        self._large = large
        self._held: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def of(self, caller: str) -> Iterator[Callable[[int], None]]:
        """Stands around the arrival of one body, or around all that is done with it: call what is given with the
        number of bytes that are here by now. It raises Overloaded where that is more than there is room for."""
        mine = 0

        def here(size: int) -> None:
            nonlocal mine
            more = size - mine if size > SMALL else 0
            at_once, of_one = (LARGE_AT_ONCE, LARGE_OF_ONE) if self._large else (AT_ONCE, OF_ONE)
            if more > 0 and (self._total + more > at_once or self._held[caller] + more > of_one):
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
