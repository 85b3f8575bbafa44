"""What a look at the installation says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """``what`` was found and what ``todo`` about it; nothing to do about what is ok."""

    level: Level
    check: str
    what: str
    todo: str = ""


Looked = Iterator[tuple[Level, str, str]]
"""Level, what, todo: only of what is not as it should be, or worth telling."""


@dataclass(frozen=True)
class Check:
    """``fine`` is told when ``look`` has nothing to tell. With ``needs_rows`` it is left out while the database
    can't be used: that is one fault, not ten."""

    name: str
    fine: str
    look: Callable[[], Looked]
    needs_rows: bool = True
