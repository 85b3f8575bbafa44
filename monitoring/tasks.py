"""Queue entry points."""

from __future__ import annotations

from monitoring import audit_check, heartbeats
from monitoring.alerting import sweeps


def beat(cluster: str) -> None:
    """Say that ``cluster`` took up a task."""
    heartbeats.beat(cluster)


def evaluate_alerts() -> bool:
    return sweeps.evaluate_rules() is not None


def send_alerts() -> bool:
    return sweeps.send_messages() is not None


def verify_audit() -> bool:
    return audit_check.run()
