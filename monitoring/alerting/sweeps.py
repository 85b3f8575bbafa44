"""The periodic jobs of alerting: look at the rules every minute, send what is queued every half."""

from __future__ import annotations

from django_q.tasks import async_task

from monitoring import heartbeats
from monitoring.alerting import contacts, deadman, turns
from monitoring.alerting.deliver import BUDGET_S, send_due
from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.notifiers.base import SEND_S

EVALUATE, DELIVER = "alerts", "alert-messages"
EVALUATE_LEASE_S = 120.0
DELIVER_LEASE_S = BUDGET_S + 3 * SEND_S


def evaluate_rules() -> bool:
    """Look at every rule, then tell the outside that the platform looks after itself. False when another turn is at
    work, which then is the one to tell."""

    def work(fence: turns.Fence) -> tuple[int, int]:
        contacts.forget_deleted_tenants()
        look = evaluate(fence=fence)
        if look.queued:
            async_task("monitoring.tasks.send_alerts", cluster="sweeps", save=False)
        return look.queued.total(), look.failures

    done = turns.take(EVALUATE, work, seconds=EVALUATE_LEASE_S)
    if done and not heartbeats.silent():
        deadman.ping()
    return done


def send_messages() -> bool:
    """Send what is due; one turn at a time, so that slow receivers never take both workers of the cluster."""
    return turns.take(DELIVER, lambda _fence: (send_due(), 0), seconds=DELIVER_LEASE_S)
