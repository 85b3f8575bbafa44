"""What a message says: one JSON object, kept with the delivery as it was then, and the plain text made of it.

Names in it are the tenants' own words. They stay data here; each notifier escapes them for where it sends them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from monitoring.alerting.machine import Notice
from monitoring.alerting.metrics import known
from monitoring.alerting.models import Alert, AlertRule, Comparison
from zcplatform.lib import clock

VERSION = 1
_HEADS = {
    Notice.FIRE: "Firing",
    Notice.REPEAT: "Still firing",
    Notice.RESOLVE: "Resolved",
    Notice.TEST: "Test message",
}


def condition_of(rule: AlertRule) -> str:
    """The rule in words: ``Host's fullest disk > 80 % for 5 min``."""
    metric = next((metric for metric in known() if metric.name == rule.metric), None)
    label, unit = (metric.label, metric.unit) if metric else (rule.metric, "")
    unit = "" if unit == "0 or 1" else f" {unit}".rstrip()
    hold = f" for {_span(rule.hold_s)}" if rule.hold_s else ""
    return f"{label} {Comparison(rule.comparison).label} {rule.threshold:g}{unit}{hold}"


def compose(alert: Alert, notice: Notice) -> dict[str, Any]:
    """The message about ``alert``; ``alert.tenant`` is read."""
    tenant = alert.tenant
    return {
        "version": VERSION,
        "notice": notice.value,
        "alert": str(alert.public_id),
        "rule": alert.name,
        "severity": alert.severity,
        "state": alert.state,
        "tenant": {"id": str(tenant.public_id), "slug": tenant.slug, "name": tenant.name} if tenant else None,
        "subject": alert.label,
        "condition": alert.condition,
        "value": alert.value,
        "since": _iso(alert.since),
        "resolved_at": _iso(alert.resolved_at),
        "platform": settings.PUBLIC_BASE_URL,
    }


def test_message() -> dict[str, Any]:
    """What a notifier is sent to try it."""
    return {
        "version": VERSION,
        "notice": Notice.TEST.value,
        "rule": "Test of a notifier",
        "severity": "warning",
        "state": "firing",
        "tenant": None,
        "subject": "",
        "condition": "somebody asked for a test",
        "value": None,
        "since": _iso(clock.now()),
        "resolved_at": None,
        "platform": settings.PUBLIC_BASE_URL,
    }


def title(message: dict[str, Any]) -> str:
    """One line: ``Firing (critical): Disk nearly full: node-1``."""
    head = _HEADS[Notice(message["notice"])]
    about = f": {message['subject']}" if message["subject"] else ""
    return f"{head} ({message['severity']}): {message['rule']}{about}"


def lines(message: dict[str, Any]) -> list[str]:
    """The title and what is known, a line each."""
    tenant = message["tenant"]
    return [
        title(message),
        f"Condition: {message['condition']}",
        *([f"Value: {message['value']:.6g}"] if message["value"] is not None else []),
        *([f"Tenant: {tenant['name']} ({tenant['slug']})"] if tenant else []),
        f"Since: {_readable(message['since'])}",
        *([f"Resolved: {_readable(message['resolved_at'])}"] if message["resolved_at"] else []),
        message["platform"],
    ]


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at else None


def _readable(text: str) -> str:
    return clock.in_words(datetime.fromisoformat(text))


def _span(seconds: int) -> str:
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
