"""Alerts in the JSON API: rules, notifiers, alerts and silences under ``/alerts``."""

from __future__ import annotations

from ninja import NinjaAPI

from monitoring.alerting.api.alerts import router as alerts
from monitoring.alerting.api.notifiers import router as notifiers
from monitoring.alerting.api.rules import router as rules
from monitoring.alerting.api.uptime import router as uptime


def mount(api: NinjaAPI) -> None:
    """Add the routes to the API."""
    api.add_router("/alerts", alerts)
    api.add_router("/alerts", rules)
    api.add_router("/alerts/notifiers", notifiers)
    api.add_router("/tenants", uptime)
