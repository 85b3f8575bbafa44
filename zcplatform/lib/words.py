"""Numbers in sentences."""

from __future__ import annotations


def count(number: int, what: str) -> str:
    """``1 secret``, ``2 secrets``, ``12,000 secrets``; for words whose plural has an s."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
