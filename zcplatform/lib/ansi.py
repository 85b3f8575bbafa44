"""What an agent wrote for a terminal, for those who read it elsewhere: colours as names, every other sequence left out.

Nothing here hides text: there is no conceal, no background and no way back over what was printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zcplatform.lib.terminal import visible

# CSI; strings (OSC, DCS, ...) that really end; all other escapes. What is cut off stays, and is spelled out.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<codes>[0-?]*)(?P<act>[ -/]*[@-~])"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
_COLOURS = ("grey", "red", "green", "yellow", "blue", "magenta", "cyan", "grey")
_STYLES = {1: "bold", 2: "dim", 3: "italic", 4: "underline"}
_ENDS = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",)}
_EXTENDED = {2: 4, 5: 2}
"""How many numbers follow 38 or 48 and belong to it, by the first of them."""


@dataclass(frozen=True)
class Piece:
    """Text in one style; ``style`` are names of this module, with spaces between them."""

    text: str
    style: str = ""

    @property
    def classes(self) -> str:
        """As a page names them."""
        return " ".join(f"ansi-{name}" for name in self.style.split())


def plain(text: str) -> str:
    """``text`` without its sequences; other control characters are left as they are."""
    return _SEQUENCE.sub("", text)


def pieces(line: str) -> list[Piece]:
    """One line, taken apart where its style changes, with every control character that is left spelled out."""
    found, style, at = [], dict[str, str](), 0
    for match in _SEQUENCE.finditer(line):
        found.append(Piece(visible(line[at : match.start()]), " ".join(style.values())))
        at = match.end()
        if match["act"] == "m":
            _change(style, match["codes"])
    found.append(Piece(visible(line[at:]), " ".join(style.values())))
    return [piece for piece in found if piece.text]


def _change(style: dict[str, str], codes: str) -> None:
    numbers = [int(code[:4]) if code.isascii() and code.isdecimal() else 0 for code in codes.split(";")]
    while numbers:
        number = numbers.pop(0)
        if number in (38, 48):
            own = numbers[: _EXTENDED.get(numbers[0], 1)] if numbers else []
            del numbers[: len(own)]
            number = _sixteen(own) if number == 38 else -1
        _one(style, number)


def _sixteen(own: list[int]) -> int:
    """The code of one of the sixteen colours of an extended one; -1 for all others."""
    if len(own) != 2 or own[0] != 5 or own[1] > 15:
        return -1
    return 30 + own[1] if own[1] < 8 else 82 + own[1]


def _one(style: dict[str, str], number: int) -> None:
    if number == 0:
        style.clear()
    elif number in _STYLES:
        style[_STYLES[number]] = _STYLES[number]
    elif number in _ENDS:
        for name in _ENDS[number]:
            style.pop(name, None)
    elif number == 39:
        style.pop("colour", None)
    elif 30 <= number <= 37 or 90 <= number <= 97:
        style["colour"] = _COLOURS[number % 10]
