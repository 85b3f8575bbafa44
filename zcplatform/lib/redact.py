"""Keeps secrets out of logs, audit rows and error texts: by the name of the field and by the value itself."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

MASK = "***"
MAX_KNOWN = 5_000
MIN_VALUE_LENGTH = 8

_SECRET_KEY = re.compile(
    r"(?:^|[_\-.])(?:password|passphrase|secret|secrets|token|tokens|api_?key|apikey|key|authorization|cookie|"
    r"credential|credentials|pepper|otp|code|bearer)(?:$|[_\-.])",
    re.IGNORECASE,
)
_known: OrderedDict[str, None] = OrderedDict()
_own: set[str] = set()  # the platform's, which no number of tenants' secrets may push out


class SecretStr:
    """A string that does not print itself. ``reveal()`` is the only way to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

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
    """Treat ``value`` as a secret from now on, in this process. The oldest of 5,000 are forgotten, but not those
    that are remembered ``for_good``."""
    if len(value) < MIN_VALUE_LENGTH:
        return
    if for_good:
        _own.add(value)
        return
    _known[value] = None
    _known.move_to_end(value)
    while len(_known) > MAX_KNOWN:
        _known.popitem(last=False)


def scrub(text: str) -> str:
    """``text`` with every remembered secret replaced."""
    # A copy, since other threads remember meanwhile; the longest first, or the rest of a secret that begins with
    # another one would stay.
    for value in sorted((value for value in (*_own, *_known) if value in text), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def is_secret_name(name: str) -> bool:
    """True for field names that hold credentials (``bot_token``, ``apiKey``, ...)."""
    return bool(_SECRET_KEY.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)))


def censor(value: Any, depth: int = 8) -> Any:
    """A copy of a JSON-like value with secret-named fields masked and remembered secrets scrubbed."""
    if depth <= 0:
        return MASK
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {
            str(k): (
                MASK if v and is_secret_name(str(k)) and not isinstance(v, bool | dict | list) else censor(v, depth - 1)
            )
            for k, v in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [censor(v, depth - 1) for v in value]
    if isinstance(value, str):
        return scrub(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub(str(value))
