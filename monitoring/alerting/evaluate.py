"""One look at every rule. Metrics are read first; then each rule that has something to say gets one transaction, in
which its alerts move on and the messages about it are queued. Nothing is sent from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, transaction

from monitoring.alerting import recipients
from monitoring.alerting.machine import Notice, State, Told, advance, notice
from monitoring.alerting.message import compose, condition_of
from monitoring.alerting.metrics import Reading, named
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier, Silence
from tenants.events import emit
from tenants.models import Tenant
from zcplatform.lib import clock
from zcplatform.lib.contained import contained
from zcplatform.lib.failpoints import failpoint

MAX_MESSAGES = 20
"""New messages to one notifier in one look; the rest follow in the next, a minute later."""

Writing = Callable[[], AbstractContextManager[None]]
"""A transaction of the caller's turn; raises ``Overtaken`` when it is another's by now."""


@dataclass
class Look:
    """What all rules of one look share."""

    now: datetime
    writing: Writing = transaction.atomic
    readings: dict[str, list[Reading] | None] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    queued: Counter[int] = field(default_factory=Counter)
    failures: int = 0


def evaluate(*, writing: Writing = transaction.atomic) -> Look:
    """Look at every enabled rule once. A metric or rule that breaks is logged and keeps no other from its turn."""
    look = Look(now=clock.now(), writing=writing)
    look.silences = list(Silence.objects.filter(until__gt=look.now))
    rules = list(AlertRule.objects.filter(enabled=True).order_by("pk"))
    look.readings = {name: _read(name, look) for name in sorted({rule.metric for rule in rules})}
    open_rules = set(Alert.objects.exclude(state=State.RESOLVED).values_list("rule_id", flat=True))
    for rule in rules:
        done = partial(_look_at, rule, look, is_open=rule.pk in open_rules)
        look.failures += not contained(done, False, what="rule_failed", rule=rule.name)
    return look


def _look_at(rule: AlertRule, look: Look, *, is_open: bool) -> bool:
    readings = look.readings[rule.metric]
    if readings is not None and (is_open or any(_holds(rule, reading) for reading in readings)):
        _turn(rule.pk, readings, look)
    return True


def close(alert: Alert, *, now: datetime) -> None:
    """End an open alert because its rule is gone or another now; who was told of it is told. Inside a transaction."""
    if alert.state == State.PENDING:
        alert.delete()
        return
    alert.state, alert.seen_at, alert.resolved_at = State.RESOLVED, now, now
    alert.save(update_fields=["state", "seen_at", "resolved_at"])
    _tell(alert.rule, alert, Look(now=now))


def _read(name: str, look: Look) -> list[Reading] | None:
    """The metric's values; None when it could not be read, and its alerts stay as they are."""
    found = contained(
        lambda: list(named(name).read()), None, what="metric_failed", passing=(DatabaseError,), metric=name
    )
    look.failures += found is None
    return found


def _holds(rule: AlertRule, reading: Reading) -> bool | None:
    return None if reading.value is None else rule.is_met_by(reading.value)


def _turn(rule_id: int, readings: list[Reading], look: Look) -> None:
    """One rule. Its row is locked, so two who look at the same time take turns, and the second finds what the first
    has written."""
    with look.writing():
        rule = AlertRule.objects.select_for_update().filter(pk=rule_id, enabled=True).first()
        if rule is None:
            return
        found = {r.subject: r for r in readings if rule.tenant_id is None or r.tenant == rule.tenant_id}
        rows = rule.alerts.exclude(state=State.RESOLVED).select_related("tenant")
        alerts: dict[str, Alert] = {alert.subject: alert for alert in rows}
        for subject in [*found, *(alerts.keys() - found.keys())]:
            alert = _move(rule, alerts.get(subject), found.get(subject), look.now)
            if alert is not None and alert.state != State.PENDING:
                _tell(rule, alert, look)


def _move(rule: AlertRule, alert: Alert | None, reading: Reading | None, now: datetime) -> Alert | None:
    """The alert after this look, stored; None when there is none."""
    holds = _holds(rule, reading) if reading else False
    life = advance(alert.life if alert else None, holds, hold_for=timedelta(seconds=rule.hold_s), now=now)
    if life is None:
        if alert is not None:
            alert.delete()
        return None
    if alert is None and reading is not None:
        alert = _new(rule, reading)
    if alert is None or holds is None:
        return alert
    alert.since, alert.seen_at = life.since, life.seen_at
    if reading and holds:
        alert.value, alert.which = reading.value, list(reading.which)
    if life.state != alert.state and life.state == State.FIRING:
        alert.fired_at = now
    if life.state == State.RESOLVED:
        alert.resolved_at = now
    changed = alert.state != life.state
    alert.state = life.state
    alert.save()
    if changed and alert.tenant is not None:
        emit(alert.tenant, f"alert.{alert.state}", {"alert": str(alert.public_id), "rule": alert.name})
    return alert


def _new(rule: AlertRule, reading: Reading) -> Alert:
    return Alert(
        rule=rule,
        tenant=Tenant.objects.get(pk=reading.tenant) if reading.tenant else None,
        subject=reading.subject,
        label=reading.label,
        name=rule.name,
        severity=rule.severity,
        unit=named(rule.metric).unit,
        condition=condition_of(rule),
    )


def _tell(rule: AlertRule | None, alert: Alert, look: Look) -> None:
    """Queue what each notifier is to be told of ``alert`` now."""
    last = _last_deliveries(alert)
    for notifier in recipients.of(rule, alert, {delivery.notifier_id for delivery in last.values()}):
        before = last.get(notifier.pk)
        told = Told(Notice(before.notice), before.created_at) if before else None
        wanted = notice(
            State(alert.state),
            told,
            quiet=any(silence.covers(alert, notifier) for silence in look.silences),
            acked=alert.is_acked_for(notifier),
            repeat_every=timedelta(seconds=rule.repeat_s if rule else 0),
            now=look.now,
        )
        if wanted and not _is_held_back(wanted, notifier, before, look):
            _queue(alert, notifier, wanted, before, look)


def _last_deliveries(alert: Alert) -> dict[int, Delivery]:
    return {delivery.notifier_id: delivery for delivery in alert.deliveries.order_by("number")}


def _is_held_back(wanted: Notice, notifier: Notifier, before: Delivery | None, look: Look) -> bool:
    """A flood comes in portions, and nothing is repeated that has not even been said. An end is never held back:
    nobody looks at a resolved alert again."""
    if wanted == Notice.RESOLVE:
        return False
    if wanted == Notice.REPEAT and before is not None and before.state == Delivery.State.QUEUED:
        return True
    return look.queued[notifier.pk] >= MAX_MESSAGES


def _queue(alert: Alert, notifier: Notifier, wanted: Notice, before: Delivery | None, look: Look) -> None:
    look.queued[notifier.pk] += 1
    Delivery.objects.create(
        alert=alert,
        notifier=notifier,
        notice=wanted,
        number=before.number + 1 if before else 1,
        message=compose(alert, wanted),
        created_at=look.now,
        next_attempt_at=look.now,
    )
    failpoint("alerts.queued")
