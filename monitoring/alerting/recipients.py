"""Who is told of an alert."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q

from monitoring.alerting.machine import State
from monitoring.alerting.models import Alert, AlertRule, Audience, Notifier

_PLATFORM = (Audience.PLATFORM, Audience.BOTH)
_TENANT = (Audience.TENANT, Audience.BOTH)


def of(rule: AlertRule | None, alert: Alert, told: set[int]) -> Iterator[Notifier]:
    """The enabled notifiers to look at. Of an alert that ended: those that were ``told`` of it, whatever the rule
    says by now. A tenant's own rule tells that tenant alone; one of the platform's, whom its audience names."""
    if alert.state == State.RESOLVED:
        yield from Notifier.objects.filter(pk__in=told, enabled=True).order_by("pk")
        return
    if rule is None:
        return
    owners = Q(tenant__isnull=True) if _tells_platform(rule, alert) else Q(pk__in=[])
    if alert.tenant_id is not None and (rule.tenant_id is not None or rule.audience in _TENANT):
        owners |= Q(tenant_id=alert.tenant_id)
    for notifier in Notifier.objects.filter(owners, enabled=True).order_by("pk"):
        if notifier.wants(alert.severity):
            yield notifier


def _tells_platform(rule: AlertRule, alert: Alert) -> bool:
    return rule.tenant_id is None and (alert.tenant_id is None or rule.audience in _PLATFORM)
