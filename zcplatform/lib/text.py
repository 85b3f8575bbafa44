"""Text that people typed: bounded, one line, nothing that a terminal, a log or a reader's eye would trip over."""

from __future__ import annotations

import unicodedata
from typing import Any

from zcplatform.lib.errors import InvalidField

# Control characters, lone surrogates, and the line and paragraph separators that some readers take for line ends.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn the direction of what is shown, so that a name could look like another.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def lines_of(text: str) -> list[str]:
    """The lines of what a program printed: only a line feed ends one. Python's own ``splitlines`` knows ten more
    ends, at which an agent could begin a line of somebody else's looks."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def check_text(value: Any, *, field: str, max_length: int, required: bool = False) -> str:
    """``value`` without surrounding spaces. InvalidField naming ``field`` when it is no text, too long, empty
    although ``required``, or holds a control character, a lone surrogate, a line separator or a direction mark."""
    if not isinstance(value, str):
        raise InvalidField("A text is expected.", field=field)
    if len(value) > max_length:
        raise InvalidField(f"At most {max_length} characters are allowed.", field=field, max_length=max_length)
    if any(unicodedata.category(c) in _REFUSED or c in _DIRECTION for c in value):
        raise InvalidField("Control characters and line breaks are not allowed.", field=field)
    text = value.strip()
    if required and not text:
        raise InvalidField("This field is empty.", field=field)
    return text
