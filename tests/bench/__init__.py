"""Benches: each gives rows of what was measured, the target and what a peer took in the same run. Nothing is asserted:
trust ratios within one run, not figures across machines. ``python -m tests.bench [--only NAME] [--short]``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

T = TypeVar("T")
SHORT = os.environ.get("ZC_BENCH_SHORT") == "1"
"""Whether all is to be small and quick, to see that it runs."""


@dataclass(frozen=True)
class Row:
    what: str
    measured: str
    target: str = ""
    peer: str = ""


@dataclass(frozen=True)
class Took:
    """Seconds on the wall, and seconds of this process's CPU; of the engine's there is no telling."""

    wall: float
    cpu: float


def size(full: T, short: T) -> T:
    """How much a bench does: for figures, or to see that it runs."""
    return short if SHORT else full


class Skipped(Exception):
    """A counterpart is not there."""


def at_once(act: Callable[[Any], object], items: Iterable[Any]) -> Took:
    """``act`` on all items at the same time, a thread each."""
    todo = list(items)
    wall, cpu = perf_counter(), process_time()
    with ThreadPoolExecutor(len(todo)) as pool:
        list(pool.map(act, todo))
    return Took(perf_counter() - wall, process_time() - cpu)


def median_ms(times: Iterable[float]) -> float:
    return median(times) * 1000


def table(rows: list[Row]) -> str:
    """The rows in columns as wide as they have to be."""
    lines = [("what", "measured", "target", "peer"), *(astuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    cells = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(cells)
