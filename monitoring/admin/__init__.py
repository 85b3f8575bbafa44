"""Monitoring in the admin."""

from monitoring.admin import alerts, notifiers, rules

__all__ = ["alerts", "notifiers", "rules"]
