"""Pages of the monitoring app, in the frame of a tenant's pages."""

from __future__ import annotations

from django.urls import path

from monitoring import pages
from monitoring.alerting.pages import alerts, notifiers, recipients, rules

T = "tenants/<str:slug>"

urlpatterns = [
    path("alerts", alerts.mine_view, name="alerts"),
    path("alerts/by-mail/<uuid:agreement>/<str:token>", recipients.agreement_view, name="alert_agreement"),
    path(f"{T}/usage", pages.usage_view, name="tenant_usage"),
    path(f"{T}/alerts", alerts.alerts_view, name="tenant_alerts"),
    path(f"{T}/alerts/<uuid:alert>/ack", alerts.ack_view, name="tenant_alert_ack"),
    path(f"{T}/alerts/silence", alerts.silence_view, name="tenant_silence"),
    path(f"{T}/alerts/silences/<uuid:silence>/lift", alerts.lift_view, name="tenant_unsilence"),
    path(f"{T}/alerts/rules", rules.rules_view, name="tenant_alert_rules"),
    path(f"{T}/alerts/rules/add", rules.add_view, name="tenant_alert_rule_add"),
    path(f"{T}/alerts/rules/<uuid:rule>", rules.change_view, name="tenant_alert_rule"),
    path(f"{T}/alerts/rules/<uuid:rule>/delete", rules.delete_view, name="tenant_alert_rule_delete"),
    path(f"{T}/alerts/notifiers", notifiers.notifiers_view, name="tenant_notifiers"),
    path(f"{T}/alerts/notifiers/add/<slug:kind>", notifiers.add_view, name="tenant_notifier_add"),
    path(f"{T}/alerts/notifiers/<uuid:notifier>", notifiers.change_view, name="tenant_notifier"),
    path(f"{T}/alerts/notifiers/<uuid:notifier>/test", notifiers.test_view, name="tenant_notifier_test"),
    path(f"{T}/alerts/notifiers/<uuid:notifier>/delete", notifiers.delete_view, name="tenant_notifier_delete"),
]
