"""Keeps secrets out of logs, audit rows and error texts: by the name of the field and by the value itself.

By value are known, everywhere: the platform's own secrets, and the credentials that it made up, since nobody else can
choose those. What a tenant has entered is known only where its text is scrubbed and while its work is done: a word that
one tenant calls a secret must not disappear from what others, or the operator, read.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MASK = "***"
MAX_KNOWN = 5_000
MIN_VALUE_LENGTH = 8

_SECRET_KEY = re.compile(
    r"(?:^|[_\-.])(?:password|passphrase|secret|secrets|token|tokens|api_?key|apikey|key|authorization|cookie|"
    r"credential|credentials|pepper|otp|code|bearer)(?:$|[_\-.])",
    re.IGNORECASE,
)
_made: OrderedDict[str, None] = OrderedDict()
_own: set[str] = set()  # the platform's, which no number of made ones may push out
_in_hand: ContextVar[set[str] | None] = ContextVar("secrets_in_hand", default=None)


class SecretStr:
    """A string that does not print itself. ``reveal()`` is the only way to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"SecretStr({MASK})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def remember(value: str, *, for_good: bool = False) -> None:
    """Treat ``value`` as a secret everywhere from now on, in this process: only what the platform itself has made, or
    was configured with. The oldest of 5,000 are forgotten, but not those that are remembered ``for_good``."""
    if len(value) < MIN_VALUE_LENGTH:
        return
    if for_good:
        _own.add(value)
        return
    _made[value] = None
    _made.move_to_end(value)
    while len(_made) > MAX_KNOWN:
        _made.popitem(last=False)


def made_up(value: str) -> SecretStr:
    """A credential that the platform has just made, remembered."""
    remember(value)
    return SecretStr(value)


@contextmanager
def handling() -> Iterator[None]:
    """Stands around one piece of work: a request, a run, a command, a message. The secrets that it opens or stores are
    ``in_hand`` until it ends, for it alone and for what it calls in other threads with its context."""
    token = _in_hand.set(set())
    try:
        yield
    finally:
        _in_hand.reset(token)


def handle(value: SecretStr) -> None:
    """Note that the present piece of work has this secret in hand."""
    held = _in_hand.get()
    if held is not None:
        held.add(value.reveal())


def in_hand() -> tuple[str, ...]:
    """The secrets that the present piece of work has opened or stored."""
    return tuple(_in_hand.get() or ())


def scrub(text: str, secrets: Iterable[str | SecretStr] = ()) -> str:
    """``text`` without what the platform knows everywhere, and without ``secrets``: those of whose text it is."""
    given = (item.reveal() if isinstance(item, SecretStr) else item for item in secrets)
    values = (*_own, *_made, *(value for value in given if len(value) >= MIN_VALUE_LENGTH))
    # A copy, since other threads remember meanwhile; the longest first, or the rest of a secret that begins with
    # another one would stay.
    for value in sorted((value for value in values if value in text), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def is_secret_name(name: str) -> bool:
    """True for field names that hold credentials (``bot_token``, ``apiKey``, ...)."""
    return bool(_SECRET_KEY.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)))


def censor(value: Any, secrets: Iterable[str | SecretStr] = (), depth: int = 8) -> Any:
    """A copy of a JSON-like value with secret-named fields masked and texts scrubbed as ``scrub`` does."""
    if depth <= 0 or isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {
            str(k): (
                MASK
                if v and is_secret_name(str(k)) and not isinstance(v, bool | dict | list)
                else censor(v, secrets, depth - 1)
            )
            for k, v in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [censor(v, secrets, depth - 1) for v in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub(str(value) if not isinstance(value, str) else value, secrets)
