"""Text that people typed: bounded, one line, nothing that a terminal, a log or a reader's eye would trip over."""

from __future__ import annotations

import unicodedata
from typing import Any

from zcplatform.lib.errors import InvalidField

# Control characters, lone surrogates, and the line and paragraph separators that some readers take for line ends.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn the direction of what is shown, so that a name could look like another.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# What a page, a mail or a terminal puts around a text that is copied from it: white space and marks without width.
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_AROUND = f"{_SPACES}\t\r\n\u2028\u2029\u200b\ufeff"


def lines_of(text: str) -> list[str]:
    """The lines of what a program printed: only a line feed ends one. Python's own ``splitlines`` knows ten more
    ends, at which an agent could begin a line of somebody else's looks."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def check_text(value: Any, *, field: str, max_length: int, required: bool = False) -> str:
    """``value`` without the white space around it, line breaks too: they come along when something is pasted.
    InvalidField naming ``field`` when the rest is no text, too long, empty although ``required``, or holds a control
    character, a lone surrogate, a line separator or a direction mark."""
    if not isinstance(value, str):
        raise InvalidField("A text is expected.", field=field)
    text = value.strip(_AROUND)
    if len(text) > max_length:
        raise InvalidField(f"At most {max_length} characters are allowed.", field=field, max_length=max_length)
    if any(unicodedata.category(c) in _REFUSED or c in _DIRECTION for c in text):
        raise InvalidField("Control characters and line breaks are not allowed.", field=field)
    if required and not text:
        raise InvalidField("This field is empty.", field=field)
    return text
