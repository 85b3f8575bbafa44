"""How fast one answer may be passed on. All chats share the loop that passes them on: an agent that writes all it can,
to a client that reads all it can, would have it for itself."""

from __future__ import annotations

import asyncio
import time

PER_S, AT_ONCE = 8 * 1_048_576, 2 * 1_048_576
"""Bytes: of one answer in a second, in the long run and, for its beginning or after a pause, at once. No model writes
as fast by far."""
SMALLEST = 1_024
"""A piece counts as so many bytes at least, since each is work of its own."""


class Pace:
    """Of one answer."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._at = time.monotonic()

    async def keep(self, size: int) -> None:
        """Wait for as long as this piece of ``size`` bytes is too early."""
        now = time.monotonic()
        self._ahead = max(0.0, self._ahead - (now - self._at) * PER_S) + max(size, SMALLEST)
        self._at = now
        if self._ahead > AT_ONCE:
            await asyncio.sleep((self._ahead - AT_ONCE) / PER_S)
