"""Queue entry points.

Tasks pile up while every worker is busy and then come one right after another. What counts in turns (strikes, pauses)
takes no harm: a turn is dropped that comes within half its interval of the one before.
"""

from __future__ import annotations

from monitoring import audit_check, heartbeats
from monitoring.alerting import agreements, sweeps
from monitoring.collectors import disks, health, resources, retention, usage


def beat(cluster: str) -> None:
    """Say that ``cluster`` took up a task."""
    heartbeats.beat(cluster)


def sweep_health() -> None:
    health.sweep(soonest_s=health.EVERY_S / 2)


def sweep_resources() -> None:
    resources.sweep(soonest_s=resources.EVERY_S / 2)


def sweep_disks() -> None:
    disks.sweep(soonest_s=disks.EVERY_S / 2)


def sweep_usage() -> None:
    usage.sweep(soonest_s=usage.EVERY_S / 2)


def roll_up() -> None:
    retention.roll_up(soonest_s=retention.ROLL_UP_EVERY_S / 2)


def prune() -> None:
    retention.prune()


def evaluate_alerts() -> bool:
    return sweeps.evaluate_rules() is not None


def ask_recipients() -> None:
    agreements.ask_waiting()


def send_alerts() -> bool:
    return sweeps.send_messages() is not None


def verify_audit() -> bool:
    return audit_check.run()
