"""Text that people typed: bounded, one line, nothing that a terminal or a log would act on."""

from __future__ import annotations

import unicodedata

from zcplatform.lib.errors import InvalidField

_REFUSED = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def check_text(value: object, *, field: str, max_length: int, required: bool = True) -> str:
    """The text itself when it may be stored; InvalidField naming ``field`` otherwise.

    Control characters, lone surrogates, line separators and direction overrides are refused.
    """
    if not isinstance(value, str):
        raise InvalidField(f"{field} must be text.", field=field)
    if required and not value.strip():
        raise InvalidField(f"{field} must not be empty.", field=field)
    if len(value) > max_length:
        raise InvalidField(f"{field} has at most {max_length} characters.", field=field, max_length=max_length)
    if any(unicodedata.category(c) in _REFUSED or c in _BIDI for c in value):
        raise InvalidField(f"{field} holds a character that can't be used.", field=field)
    return value
