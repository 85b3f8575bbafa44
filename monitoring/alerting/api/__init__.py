"""Alerts in the JSON API: rules, notifiers, alerts and silences under ``/alerts``."""
