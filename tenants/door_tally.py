"""Counts what passes the door, in batches: while one is written, what comes is the next one."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import structlog
from django.db import InterfaceError, OperationalError

from tenants import usage
from tenants.door_access import in_database
from tenants.records import UsageSource
from zcplatform.lib.errors import Overloaded

log = structlog.get_logger(__name__)
PATIENCE_S = 1.0
"""So long a chat waits until it is written down that there was one."""
RETRY_S = 1.0
CLOSE_S = 10.0
Batch = dict[int, Counter[str]]


class Tally:
    """One per process. What was counted is in the database once ``written`` returns, unless that takes too long: then
    it follows, and is lost only with the process."""

    def __init__(self) -> None:
        self._waiting: Batch = {}
        self._last: asyncio.Task[None] | None = None
        self._is_due = False
        self._writing = asyncio.Lock()

    def count(self, tenant_id: int, **counts: int) -> None:
        """Count once, and have it written by a task of its own, whatever becomes of the caller's."""
        self._waiting.setdefault(tenant_id, Counter()).update(counts)
        if not self._is_due:
            self._is_due = True
            self._last = asyncio.create_task(self._write_next())

    async def written(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until what was counted so far is written. No chat ends for it: a second at most, and raises nothing."""
        if self._last is not None:
            await asyncio.wait({self._last}, timeout=patience_s)

    async def aclose(self) -> None:
        """Write down what is not yet, if that can be done within some seconds."""
        await self.written(CLOSE_S)

    async def _write_next(self) -> None:
        async with self._writing:
            self._is_due = False
            batch, self._waiting = self._waiting, {}
            while not await _is_settled(batch):
                await asyncio.sleep(RETRY_S)


async def _is_settled(batch: Batch) -> bool:
    """False when the database is away: then the batch is to be tried again. What it refuses is told and given up."""
    try:
        await in_database(partial(usage.add_passed, UsageSource.Source.DOOR, batch))
    except (OperationalError, InterfaceError, Overloaded) as error:
        log.warning("messages wait to be counted", tenants=len(batch), type=type(error).__name__)
        return False
    except Exception:
        log.exception("messages were not counted", counts={key: dict(counts) for key, counts in batch.items()})
    return True
