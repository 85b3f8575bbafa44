"""Cleaning up after acts that were killed."""

from __future__ import annotations

from pathlib import Path

from backups import staging


def clean(home: Path) -> dict[str, int]:
    """Remove leftovers below ``home``; counts by kind."""
    return {"staged": staging.clear(home)}
