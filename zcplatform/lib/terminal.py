"""What a command prints: nothing in it can move a terminal's cursor, hide text, or turn the reading direction round.

Agents and tenants write much of what commands show (logs, answers, names, errors). So the one place that encodes is
the output itself: ``SafeOutput`` stands before stdout and stderr of every command, whether they are a terminal or not,
for what goes into a file is looked at in a terminal later.
"""

from __future__ import annotations

import re
import termios
from contextlib import suppress
from typing import Any, TextIO

from django.core.management.base import OutputWrapper

# Escape sequences, line breaks of other kinds, marks of direction, and halves of characters that can't be written.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}]")


def visible(text: str) -> str:
    """``text`` with every control character spelled out (``\\\\x1b``), but tabs and line ends."""
    return _UNSAFE.sub(lambda found: _spelled(found[0]), text.replace("\r\n", "\n"))


def visible_json(text: str) -> str:
    """The same for JSON, which stays what it was: JSON's own spelling of the same characters."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def forget_typed(terminal: TextIO) -> None:
    """Drop what was typed or pasted into ``terminal`` before now and that nobody has read; nothing where it is none."""
    with suppress(OSError, termios.error):
        termios.tcflush(terminal, termios.TCIFLUSH)


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class SafeOutput(OutputWrapper):
    """A command's output. Colours come in by ``style_func``, after the text was made harmless; a style that is already
    in the text is spelled out like any other sequence."""

    def __init__(self, output: OutputWrapper) -> None:
        super().__init__(output._out, output.ending)  # type: ignore[arg-type]  # told as a method by its __getattr__
        self.style_func = output.style_func

    def write(self, msg: str = "", style_func: Any = None, ending: str | None = None) -> None:  # type: ignore[override]
        super().write(visible(str(msg)), style_func, ending)


class SafeStreams:
    """For a command: whatever is made its stdout or stderr, by Django or by a caller, is safe from then on."""

    _safe: dict[str, SafeOutput]

    @property
    def stdout(self) -> SafeOutput:
        return self._safe["out"]

    @stdout.setter
    def stdout(self, output: OutputWrapper) -> None:
        self._keep("out", output)

    @property
    def stderr(self) -> SafeOutput:
        return self._safe["err"]

    @stderr.setter
    def stderr(self, output: OutputWrapper) -> None:
        self._keep("err", output)

    def _keep(self, name: str, output: OutputWrapper) -> None:
        self.__dict__.setdefault("_safe", {})[name] = output if isinstance(output, SafeOutput) else SafeOutput(output)
