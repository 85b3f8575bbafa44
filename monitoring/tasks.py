"""Queue entry points."""

from __future__ import annotations

from monitoring import heartbeats
from monitoring.collectors import disks, health, resources, retention, usage


def beat(cluster: str) -> None:
    """Say that ``cluster`` took up a task."""
    heartbeats.beat(cluster)


def sweep_health() -> None:
    health.sweep()


def sweep_resources() -> None:
    resources.sweep()


def sweep_disks() -> None:
    disks.sweep()


def sweep_usage() -> None:
    usage.sweep()


def roll_up() -> None:
    retention.roll_up()


def prune() -> None:
    retention.prune()
