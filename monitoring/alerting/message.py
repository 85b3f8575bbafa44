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
from monitoring.alerting.units import YES_OR_NO, limit, with_unit
from zcplatform.lib import clock

VERSION = 1
MAX_NAMED = 20
"""Tenants of one message."""
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
    hold = f" for {limit(rule.hold_s, 's')}" if rule.hold_s else ""
    if unit == YES_OR_NO and rule.is_met_by(1) and not rule.is_met_by(0):
        return f"{label}{hold}"  # that is what it says already
    return f"{label} {Comparison(rule.comparison).label} {limit(rule.threshold, unit)}{hold}"


def compose(alert: Alert, notice: Notice) -> dict[str, Any]:
    """The message about ``alert``; ``alert.tenant`` is read."""
    tenant = alert.tenant
    named = [{"slug": slug, "url": f"{settings.PUBLIC_BASE_URL}/tenants/{slug}/"} for slug in alert.which[:MAX_NAMED]]
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
        "unit": alert.unit,
        "tenants": named,
        "tenants_total": len(alert.which),
        "since": _iso(alert.since),
        "resolved_at": _iso(alert.resolved_at),
        "url": _page(tenant.slug if tenant else ""),
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
        "unit": "",
        "tenants": [],
        "tenants_total": 0,
        "since": _iso(clock.now()),
        "resolved_at": None,
        "url": _page(""),
        "platform": settings.PUBLIC_BASE_URL,
    }


def title(message: dict[str, Any]) -> str:
    """One line: ``Firing (critical): Disk nearly full: node-1``."""
    head = _HEADS[Notice(message["notice"])]
    about = f": {message['subject']}" if message["subject"] else ""
    return f"{head} ({message['severity']}): {message['rule']}{about}"


def lines(message: dict[str, Any]) -> list[str]:
    """The title and what is known, a line each; the last one is where to look. A message that was queued by an earlier
    version lacks some of it."""
    tenant = message["tenant"]
    return [
        title(message),
        f"Condition: {message['condition']}",
        *_value(message),
        *([f"Tenant: {tenant['name']} ({tenant['slug']})"] if tenant else []),
        *_named(message),
        f"Since: {_readable(message['since'])}",
        *([f"Resolved: {_readable(message['resolved_at'])}"] if message["resolved_at"] else []),
        message.get("url") or message["platform"],
    ]


def _value(message: dict[str, Any]) -> list[str]:
    value, unit = message["value"], message.get("unit", "")
    return [] if value is None or unit == YES_OR_NO else [f"Value: {with_unit(value, unit)}"]


def _named(message: dict[str, Any]) -> list[str]:
    """Of a count of tenants, which: each with its page."""
    named, total = message.get("tenants", []), message.get("tenants_total", 0)
    more = [f"and {total - len(named)} more"] if total > len(named) else []
    return [*(f"{tenant['slug']}: {tenant['url']}" for tenant in named), *more]


def _page(slug: str) -> str:
    """Where the alert stands: on its tenant's page, or on the one of all alerts."""
    return f"{settings.PUBLIC_BASE_URL}/tenants/{slug}/alerts" if slug else f"{settings.PUBLIC_BASE_URL}/alerts"


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at else None


def _readable(text: str) -> str:
    return clock.in_words(datetime.fromisoformat(text))
