"""Queue entry points."""

from __future__ import annotations

from monitoring import audit_check, heartbeats
from monitoring.alerting import sweeps
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


def evaluate_alerts() -> bool:
    return sweeps.evaluate_rules() is not None


def send_alerts() -> bool:
    return sweeps.send_messages() is not None


def verify_audit() -> bool:
    return audit_check.run()
