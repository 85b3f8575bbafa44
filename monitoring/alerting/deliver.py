"""Sends what is queued. Each notifier's queue is emptied by one worker at a time, in order, under a lease; a slow
receiver delays its own messages only. A worker that dies after sending sends once more: a receiver that must not see
the same message twice knows it by its delivery id."""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import structlog
from django.db import connections
from django.db.models import F, Min

from monitoring.alerting.machine import Notice
from monitoring.alerting.message import test_message
from monitoring.alerting.models import Delivery, Notifier
from monitoring.alerting.notifiers import is_hidden, notifier_kind
from monitoring.alerting.notifiers.base import MAX_PAUSE_S, SEND_S, Address, Refused
from vault import services as vault
from zcplatform.lib import claims, clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import DependencyDown, FaultError, ZCError
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.redact import SecretStr, handling, in_hand, scrub

log = structlog.get_logger(__name__)

PAUSES_S = (30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 3_600, 3_600)
"""Before each further try; after the last one the message has failed, some four hours after it was queued."""
LEASE_S = SEND_S * 3
BUDGET_S = 20.0
THREADS = 8


def send_due(*, budget_s: float = BUDGET_S) -> int:
    """Send what is due, to several receivers at once, for about ``budget_s`` seconds; returns how many arrived.

    What is left, and what failed, is found by the next call.
    """
    until = time.monotonic() + budget_s
    waiting = Delivery.objects.filter(state=Delivery.State.QUEUED, notifier__enabled=True)
    due = waiting.values("notifier").annotate(first=Min("next_attempt_at")).order_by("first")
    notifiers = [row["notifier"] for row in due if _is_due(row["first"])]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="notifier") as pool:
        return sum(pool.map(lambda pk: _in_thread(pk, until), notifiers))


def send_test(notifier: Notifier) -> Delivery:
    """Send a test message at once and keep what came of it; it is not tried again. Call it outside a transaction."""
    delivery = Delivery(notifier=notifier, notice=Notice.TEST, message=test_message(), attempts=1)
    error = _send(delivery)
    delivery.state = Delivery.State.FAILED if error else Delivery.State.SENT
    delivery.error, delivery.finished_at = _words(error), clock.now()
    delivery.save(force_insert=True)
    return delivery


def _in_thread(notifier_id: int, until: float) -> int:
    try:
        with handling():
            return _empty(notifier_id, until)
    except Exception:
        log.exception("notifier_failed", notifier=notifier_id)
        return 0
    finally:
        connections.close_all()  # this thread's own


def _empty(notifier_id: int, until: float) -> int:
    """Send the notifier's due messages in order, until one has to wait, the time is over, or another took over."""
    rows, owner = Notifier.objects.filter(enabled=True), f"{os.getpid()}:{uuid.uuid4().hex[:8]}"
    epoch = claims.claim(rows, pk=notifier_id, owner=owner, seconds=LEASE_S)
    if epoch is None:
        return 0
    held, sent = claims.held(rows, pk=notifier_id, epoch=epoch), 0
    try:
        for delivery in _due(notifier_id):
            ours = time.monotonic() < until and claims.renew(held, seconds=LEASE_S)
            state = _attempt(delivery) if ours else ""
            if state in ("", Delivery.State.QUEUED):
                break
            sent += state == Delivery.State.SENT
    finally:
        claims.release(held)
    return sent


def _due(notifier_id: int) -> list[Delivery]:
    """In order; what is later in the life of the same alert waits for what comes before it."""
    queued = Delivery.objects.filter(notifier_id=notifier_id, state=Delivery.State.QUEUED)
    due, waiting = [], set()
    for delivery in queued.select_related("notifier", "notifier__secret", "notifier__tenant").order_by("pk"):
        if delivery.alert_id in waiting or not _is_due(delivery.next_attempt_at):
            waiting.add(delivery.alert_id)
        else:
            due.append(delivery)
    return due


def _is_due(at: datetime) -> bool:
    """A time further away than any pause comes from a clock that was wrong."""
    now = clock.now()
    return not now < at <= now + timedelta(seconds=MAX_PAUSE_S)


def _attempt(delivery: Delivery) -> str:
    """One try, counted before it is made: a message that kills its worker is not tried for ever. The state that it
    led to; empty when another worker has the message by now."""
    queued = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.QUEUED)
    if not queued.filter(attempts=delivery.attempts).update(attempts=F("attempts") + 1):
        return ""
    delivery.attempts += 1
    left = delivery.attempts <= len(PAUSES_S) + 1
    error = _send(delivery) if left else DependencyDown("Given up: every try ended the worker.")
    if error is not None and not error.permanent and delivery.attempts <= len(PAUSES_S):
        pause = max(PAUSES_S[delivery.attempts - 1], int(error.details.get("retry_after", 0)))
        queued.update(error=_words(error), next_attempt_at=clock.now() + timedelta(seconds=pause))
        return Delivery.State.QUEUED
    state = Delivery.State.FAILED if error else Delivery.State.SENT
    queued.update(state=state, error=_words(error), finished_at=clock.now())
    return state


def _send(delivery: Delivery) -> ZCError | None:
    """Hand it over; the error that it met, if any."""
    notifier = delivery.notifier
    try:
        kind = notifier_kind(notifier.kind)
        to = Address(notifier.config, _secret(notifier), str(delivery.public_id), notifier.tenant)
        kind.send(to, delivery.message)
    except ZCError as error:
        log.warning("alert_not_delivered", delivery=str(delivery.public_id), type=error.type)
        return error
    except Exception:
        log.exception("alert_not_delivered", delivery=str(delivery.public_id))
        return FaultError("The message could not be sent: an error of the platform itself.")
    failpoint("alerts.sent")
    return None


def _secret(notifier: Notifier) -> SecretStr:
    if notifier.secret is None:
        return SecretStr("")
    if is_hidden(notifier):
        raise Refused("The secret was entered for another address; enter it again.", type="notifier_secret_hidden")
    return vault.reveal(notifier.secret, actor=SYSTEM, why="alert message")


def _words(error: ZCError | None) -> str:
    return scrub(error.message, in_hand())[:300] if error else ""
