"""An open-loop load: writes are offered at a rate whatever becomes of those before, by one process on one core.

Reads ``{"base", "key", "ids", "rate", "seconds"}`` from standard input and prints what was answered, with seconds from
the moment each was due, so that a generator that falls behind shows it instead of offering less.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any

import aiohttp

CORE = 1
GIVE_UP_S = 120


@dataclass
class Offered:
    """What became of one rate."""

    rate: float
    seconds: float
    done: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    took: float = 0.0
    cpu: float = 0.0

    @property
    def goodput(self) -> float:
        """Writes done a second, until the last answer."""
        return len(self.done) / self.took


async def offer(base: str, key: str, ids: list[str], rate: float, seconds: float) -> Offered:
    """Renames: each is the row, an event and a link of the audit's chain."""
    told, chosen, began = Offered(rate, seconds), random.Random(1), perf_counter()
    connector, limit = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=GIVE_UP_S)
    async with aiohttp.ClientSession(
        connector=connector, headers={"Authorization": f"Bearer {key}"}, timeout=limit
    ) as session:

        async def write(number: int) -> None:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
            try:
                url = f"{base}/tenants/{chosen.choice(ids)}"
                async with session.patch(url, json={"name": f"Name {number}"}) as response:
                    _count(told, response.status, await response.json(), perf_counter() - due)
            except (aiohttp.ClientError, TimeoutError) as error:
                told.failed[type(error).__name__] = told.failed.get(type(error).__name__, 0) + 1

        await asyncio.gather(*(write(number) for number in range(int(rate * seconds))))
    told.took, told.cpu = perf_counter() - began, process_time()
    return told


def _count(told: Offered, status: int, body: Any, took: float) -> None:
    if status == 200:
        told.done.append(took)
    elif status == 503 and body["error"]["type"] == "overloaded":
        told.shed.append(took)
    else:
        kind = f"{status} {body['error']['type']}"
        told.failed[kind] = told.failed.get(kind, 0) + 1


def main() -> None:
    os.sched_setaffinity(0, {CORE if CORE in os.sched_getaffinity(0) else min(os.sched_getaffinity(0))})
    print(json.dumps(asdict(asyncio.run(offer(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
