"""One item of a loop that many share: whatever goes wrong with it is its own, and the loop goes on.

What an agent answers, and what lies in its folder, can make any code fail in any way: a list of exceptions to expect
would be a list of those that somebody thought of.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

from zcplatform.lib.errors import ZCError

log = structlog.get_logger(__name__)
FRAMES = 4

T = TypeVar("T")


class EndsTheLoop(Exception):
    """Base of what concerns all items, such as a lease that another holds by now."""


SHARED: tuple[type[Exception], ...] = (EndsTheLoop, OperationalError, InterfaceError)
"""A database that is away or locked is no item's fault."""


def contained(
    act: Callable[[], T], otherwise: T, *, what: str, passing: tuple[type[Exception], ...] = (), **about: object
) -> T:
    """What ``act`` gives, or ``otherwise`` when it fails: then ``what`` is logged with ``about``, and where it was.

    Raises what concerns the whole loop (``SHARED``, and those of ``passing``), and nothing else. ``act`` opens a
    transaction of its own for what it writes.
    """
    try:
        return act()
    except Exception as error:
        if isinstance(error, (*SHARED, *passing)):
            raise
        if isinstance(error, ZCError):
            log.warning(what, **about, type=error.type)
            return otherwise
        log.error(what, **about, type=type(error).__name__, where=where(error))
    return otherwise


def where(error: BaseException) -> str:
    """The last few lines of code that ``error`` went through. Without its text, which may be the whole of a hostile
    answer."""
    frames = traceback.extract_tb(error.__traceback__, limit=-FRAMES)
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
