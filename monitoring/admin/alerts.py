"""Alerts in the admin: to be read, acknowledged and silenced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from monitoring.alerting import services
from monitoring.alerting.models import Alert, Delivery, Silence
from tenants.admin.site import ReadOnlyAdmin, actor_of, telling
from zcplatform.lib import clock


def _silence(label: str, span: timedelta) -> Callable[[Any, HttpRequest, QuerySet[Alert]], None]:
    """An action of the list: no messages about the alert's rule and tenant for ``span``."""

    @admin.action(description=f"Silence for {label}")
    def action(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        pairs = {(a.rule_id, a.tenant_id): a for a in queryset.select_related("rule", "tenant") if a.rule}
        for alert in pairs.values():
            with telling(request, f"Not silenced: {alert.name}"):
                until = clock.now() + span
                services.silence(actor=actor_of(request), until=until, rule=alert.rule, tenant=alert.tenant)
                messages.success(request, f"Silenced for {label}: {alert.name} {alert.label}".strip())

    action.__name__ = f"silence_{int(span.total_seconds())}"
    return action


class DeliveryInline(admin.TabularInline):
    """The messages about an alert. Django's own table has a header without a word, and can't be scrolled by keys."""

    model = Delivery
    template = "admin/monitoring/deliveries.html"
    fields = ()
    extra = max_num = 0

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        return super().get_queryset(request).select_related("notifier").order_by("-pk")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ["name", "label", "state", "severity", "reading", "tenants", "began", "ended", "acked_by"]
    list_filter = ["state", "severity"]
    list_select_related = ["tenant"]
    search_fields = ["name", "label"]
    ordering = ["-pk"]
    inlines = [DeliveryInline]
    actions = ["acknowledge", _silence("an hour", timedelta(hours=1)), _silence("a day", timedelta(days=1))]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    @admin.display(description="Value", ordering="value")
    def reading(self, alert: Alert) -> str:
        return alert.measured

    @admin.display(description="Which")
    def tenants(self, alert: Alert) -> str:
        return ", ".join(alert.which)

    @admin.display(description="Since, UTC", ordering="since")
    def began(self, alert: Alert) -> str:
        return alert.since.astimezone(UTC).strftime(clock.MINUTE)

    @admin.display(description="Over, UTC", ordering="resolved_at")
    def ended(self, alert: Alert) -> str:
        return alert.resolved_at.astimezone(UTC).strftime(clock.MINUTE) if alert.resolved_at else ""

    @admin.action(description="Acknowledge")
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        for alert in queryset.select_related("tenant"):
            with telling(request, f"Not done for {alert.name}"):
                services.acknowledge(actor=actor_of(request), alert=alert)
                messages.success(request, f"Acknowledged: {alert.name} {alert.label}".strip())


@admin.register(Silence)
class SilenceAdmin(ReadOnlyAdmin):
    list_display = ["ends", "rule", "tenant", "note", "for_tenant_only", "created_by", "made"]
    list_select_related = ["rule", "tenant"]
    ordering = ["-until"]
    actions = ["lift"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    @admin.display(description="Until, UTC", ordering="until")
    def ends(self, silence: Silence) -> str:
        return silence.until.astimezone(UTC).strftime(clock.MINUTE)

    @admin.display(description="Made, UTC", ordering="created_at")
    def made(self, silence: Silence) -> str:
        return silence.created_at.astimezone(UTC).strftime(clock.MINUTE)

    @admin.action(description="Lift")
    def lift(self, request: HttpRequest, queryset: QuerySet[Silence]) -> None:
        for row in queryset.select_related("tenant"):
            with telling(request):
                services.unsilence(actor=actor_of(request), silence=row)
                messages.success(request, "The silence is lifted.")
