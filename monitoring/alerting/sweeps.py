"""The periodic jobs of alerting: look at the rules every minute, send what is queued every half."""

from __future__ import annotations

from django_q.tasks import async_task

from monitoring import heartbeats, sweeps
from monitoring.alerting import agreements, contacts, deadman
from monitoring.alerting.deliver import BUDGET_S, send_due
from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.notifiers.base import SEND_S

EVALUATE, EVALUATE_S, EVALUATE_LEASE_S = "alerts", 60.0, 120.0
DELIVER, DELIVER_S, DELIVER_LEASE_S = "alert-messages", 30.0, BUDGET_S + 3 * SEND_S


def evaluate_rules() -> sweeps.Outcome | None:
    """Look at every rule, then tell the outside that the platform looks after itself. None when another turn is at
    work, which then is the one to tell."""

    def work(turn: sweeps.Turn) -> sweeps.Outcome:
        contacts.forget_deleted_tenants()
        agreements.ask_waiting()  # what a budget held back, or a worker that died
        look = evaluate(writing=turn.writing)
        if look.queued:
            async_task("monitoring.tasks.send_alerts", cluster="sweeps", save=False)
        return sweeps.Outcome(look.queued.total(), look.failures)

    done = sweeps.run(EVALUATE, every_s=EVALUATE_S, lease_s=EVALUATE_LEASE_S, work=work)
    if done is not None and not heartbeats.silent() and not heartbeats.late():
        deadman.ping()
    return done


def send_messages() -> sweeps.Outcome | None:
    """Send what is due; one turn at a time, so that slow receivers take one of the cluster's workers and no more."""
    return sweeps.run(
        DELIVER, every_s=DELIVER_S, lease_s=DELIVER_LEASE_S, work=lambda _turn: sweeps.Outcome(send_due())
    )
