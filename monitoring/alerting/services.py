"""What can be done with rules, alerts and silences. Each change, its event and its audit row are one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

from django.db import transaction

from audit.services import Target
from monitoring.alerting import agreements
from monitoring.alerting.evaluate import close
from monitoring.alerting.machine import State
from monitoring.alerting.metrics import Scope, named
from monitoring.alerting.models import Alert, AlertRule, Audience, Comparison, Delivery, Severity, Silence
from monitoring.alerting.ownership import require, written
from tenants.models import Tenant
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, InvalidField, NotFound
from zcplatform.lib.text import check_text

MAX_RULES = 50
"""Own rules of one tenant: each is a look every minute."""
LONGEST_S = 7 * 24 * 3_600
SHORTEST_REPEAT_S = 300
KEPT = timedelta(days=90)
LONGEST_SILENCE = timedelta(days=30)
_CONDITION = frozenset({"metric", "comparison", "threshold", "hold_s", "enabled"})
_CHOICES = {"comparison": Comparison, "severity": Severity, "audience": Audience}
_SPANS = {"hold_s": 0, "repeat_s": SHORTEST_REPEAT_S}


def create_rule(*, actor: Actor, tenant: Tenant | None, values: Mapping[str, Any]) -> AlertRule:
    """Make a rule; ``name``, ``metric`` and ``threshold`` are required, the other fields are those of ``AlertRule``.

    InvalidField naming the field; Conflict ``too_many_rules``.
    """
    require(actor, tenant)
    rule = AlertRule(tenant=tenant, **checked(values, tenant))
    for name in ("name", "metric", "threshold"):
        if name not in values:
            raise InvalidField("This field is required.", field=name)
    with transaction.atomic():
        if tenant is not None:
            Tenant.objects.select_for_update().get(pk=tenant.pk)
            if tenant.alert_rules.count() >= MAX_RULES:
                raise Conflict(f"A tenant has at most {MAX_RULES} rules.", type="too_many_rules", limit=MAX_RULES)
            rule.audience = Audience.TENANT
        rule.save(force_insert=True)
        written("alert_rule.create", actor, tenant, rule_target(rule), **_shown(rule))
    return rule


def update_rule(*, actor: Actor, rule: AlertRule, changes: Mapping[str, Any]) -> AlertRule:
    """Change a rule. Where that changes its condition, its open alerts end: what they said is not asked any more."""
    require(actor, rule.tenant)
    values = checked(changes, rule.tenant)
    with transaction.atomic():
        row = _locked(rule)
        changed = {name: [getattr(row, name), value] for name, value in values.items() if getattr(row, name) != value}
        if not changed:
            return row
        if _CONDITION & changed.keys():
            _close_all(row)
        for name, value in values.items():
            setattr(row, name, value)
        row.edited_at = clock.now()
        row.save(update_fields=[*values, "edited_at"])
        written("alert_rule.update", actor, row.tenant, rule_target(row), changed=changed)
    return row


def delete_rule(*, actor: Actor, rule: AlertRule) -> None:
    """Delete a rule; its alerts end and stay to be read. Conflict ``default_rule`` for one that exists by default."""
    require(actor, rule.tenant)
    if rule.key is not None:
        raise Conflict("This rule exists by default: disable it instead.", type="default_rule")
    with transaction.atomic():
        row = _locked(rule)
        _close_all(row)
        target = rule_target(row)
        row.delete()
        written("alert_rule.delete", actor, rule.tenant, target)


def acknowledge(*, actor: Actor, alert: Alert) -> Alert:
    """Stop the repeats of an open alert: somebody looks after it. A tenant's manager speaks for the tenant, so the
    operator's repeats go on. Conflict ``alert_resolved``; again changes nothing."""
    require(actor, alert.tenant)
    with transaction.atomic():
        row = Alert.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=alert.pk)
        if row.state == State.RESOLVED:
            raise Conflict("This alert is over.", type="alert_resolved")
        if row.acked_at is not None and (not row.acked_for_tenant_only or not actor.unrestricted):
            return row
        row.acked_at, row.acked_by, row.acked_for_tenant_only = clock.now(), actor.label, not actor.unrestricted
        row.save(update_fields=["acked_at", "acked_by", "acked_for_tenant_only"])
        written("alert.ack", actor, row.tenant, Target("alert", str(row.public_id), row.name))
    return row


def prune() -> int:
    """Forget alerts that ended 90 days ago, their messages, and silences that are over; how many alerts went."""
    oldest = clock.now() - KEPT
    Silence.objects.filter(until__lt=oldest).delete()
    Delivery.objects.filter(alert=None, created_at__lt=oldest).delete()
    agreements.prune()
    old = Alert.objects.filter(state=State.RESOLVED, resolved_at__lt=oldest).order_by("pk").values_list("pk", flat=True)
    gone = 0
    while batch := list(old[:500]):
        gone += len(batch)
        Alert.objects.filter(pk__in=batch).delete()
    return gone


def silence(
    *, actor: Actor, until: datetime, rule: AlertRule | None = None, tenant: Tenant | None = None, note: str = ""
) -> Silence:
    """Keep quiet about a rule, a tenant or both (super-admins: also about everything) until a time at most 30 days
    away. A tenant's manager speaks for the tenant: the operator is still told. InvalidField; NotFound for a rule that
    is another tenant's."""
    owner = tenant or (rule.tenant if rule else None)
    require(actor, owner)
    if rule is not None and rule.tenant_id not in (None, owner.pk if owner else None):
        raise NotFound()
    if not clock.now() < until <= clock.now() + LONGEST_SILENCE:
        raise InvalidField("A time in the future is expected, at most 30 days away.", field="until")
    note = check_text(note, field="note", max_length=200)
    with transaction.atomic():
        row = Silence.objects.create(
            rule=rule,
            tenant=owner,
            until=until,
            note=note,
            created_by=actor.label,
            for_tenant_only=not actor.unrestricted,
        )
        about = {"rule": rule.name if rule else "", "until": until.isoformat(), "note": note}
        written("alert.silence", actor, owner, Target("silence", str(row.public_id)), **about)
    return row


def unsilence(*, actor: Actor, silence: Silence) -> None:
    """Lift a silence: what still fires is told at the next look. A tenant's manager lifts no silence of the operator:
    NotFound."""
    require(actor, silence.tenant)
    if not silence.for_tenant_only and not actor.unrestricted:
        raise NotFound()
    with transaction.atomic():
        if Silence.objects.filter(pk=silence.pk, until__gt=clock.now()).update(until=clock.now()):
            written("alert.unsilence", actor, silence.tenant, Target("silence", str(silence.public_id)))


def rule_target(rule: AlertRule) -> Target:
    """The rule as an audit row names it."""
    return Target("alert_rule", str(rule.public_id), rule.name)


def checked(values: Mapping[str, Any], tenant: Tenant | None) -> dict[str, Any]:
    """The values as they are stored. InvalidField naming the one that can't be."""
    found = {name: _checked_one(name, value) for name, value in values.items()}
    if tenant is not None and "metric" in values and named(values["metric"]).scope != Scope.TENANT:
        raise InvalidField("This metric is about the platform.", type="unknown_metric", field="metric")
    if tenant is not None and "audience" in values and values["audience"] != Audience.TENANT:
        raise InvalidField("A tenant's rule tells that tenant.", field="audience")
    return found


def _checked_one(name: str, value: Any) -> Any:
    if name == "name":
        return check_text(value, field=name, max_length=120, required=True)
    if name == "metric":
        return named(value).name
    if name in _CHOICES:
        if value not in _CHOICES[name].values:
            raise InvalidField(f"One of {', '.join(_CHOICES[name].values)} is expected.", field=name)
        return value
    if name in _SPANS:
        return _span(name, value)
    if name == "threshold":
        return _number(value)
    if name == "enabled" and isinstance(value, bool):
        return value
    raise InvalidField("There is no such field, or true or false is expected.", field=name)


def _span(name: str, value: Any) -> int:
    """Seconds; of the repeat, 0 means once."""
    low, fine = _SPANS[name], isinstance(value, int) and not isinstance(value, bool)
    if not fine or not (value == 0 or low <= value <= LONGEST_S):
        raise InvalidField(f"0 or {max(low, 1)} to {LONGEST_S} seconds are expected.", field=name)
    return value


def _number(value: Any) -> float:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e15
    if not fine or not isfinite(value):
        raise InvalidField("A number is expected.", field="threshold")
    return float(value)


def _locked(rule: AlertRule) -> AlertRule:
    row = AlertRule.objects.select_for_update().filter(pk=rule.pk).first()
    if row is None:
        raise NotFound()
    return row


def _close_all(rule: AlertRule) -> None:
    for alert in rule.alerts.exclude(state=State.RESOLVED).select_related("tenant"):
        close(alert, now=clock.now())


def _shown(rule: AlertRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in ("metric", "comparison", "threshold", "hold_s", "severity")}
