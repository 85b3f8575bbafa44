"""Progress of a long act on a terminal: one line for each thing that is done, rewritten as it goes on."""

from __future__ import annotations

import time
from typing import Any

EVERY_S = 0.2


class Telling:
    """Called as ``services`` call ``say``; writes nothing where nobody looks."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream if stream.isatty() else None
        self.what, self.next_at = "", 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.stream is None or (what == self.what and time.monotonic() < self.next_at):
            return
        if self.what and what != self.what:
            self.stream.write("", ending="\n")
        share = f" {done / total:4.0%} of {total / 1e6:,.0f} MB" if total else ""
        self.stream.write(f"  {what}{share}", lambda text: f"\r{text}", ending="")
        self.stream.flush()
        self.what, self.next_at = what, time.monotonic() + EVERY_S

    def end(self) -> None:
        if self.stream is not None and self.what:
            self.stream.write("", ending="\n")
