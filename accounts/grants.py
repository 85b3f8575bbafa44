"""What a write was allowed by, noted while it runs: its answer is told again only to who would still be allowed.

Whoever decides a kind of question registers the answer to it in ``CHECKS``, and calls ``note`` when it has allowed
something. Outside of ``noting`` a note is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden

Grant = tuple[str, str, str]
"""The kind of question, what was asked for, and where: all of them texts."""

CHECKS: dict[str, Callable[[Actor, str, str], None]] = {}
"""By kind: raises as the first time for who may no longer."""

_noted: ContextVar[list[Grant] | None] = ContextVar("noted grants", default=None)


@contextmanager
def noting() -> Iterator[list[Grant]]:
    """The list that is filled with what is allowed inside of the block."""
    found: list[Grant] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note(kind: str, what: str, where: str = "") -> None:
    """Remember that ``what`` was allowed."""
    found = _noted.get()
    if found is not None and (kind, what, where) not in found:
        found.append((kind, what, where))


def check(actor: Actor, grants: Iterable[Grant]) -> None:
    """Ask all of it again. Forbidden, NotFound; Forbidden as well for a kind that nobody knows any more."""
    for kind, what, where in grants:
        if kind not in CHECKS:
            raise Forbidden("What allowed the first request is not known any more.")
        CHECKS[kind](actor, what, where)
