"""Queue entry points."""

from __future__ import annotations

from monitoring import heartbeats


def beat(cluster: str) -> None:
    """Say that ``cluster`` took up a task."""
    heartbeats.beat(cluster)
