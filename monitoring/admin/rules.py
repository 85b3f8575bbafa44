"""Alert rules in the admin: made, changed and deleted through the services."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from monitoring.alerting import services
from monitoring.alerting.message import condition_of
from monitoring.alerting.metrics import known
from monitoring.alerting.models import AlertRule
from tenants.admin.site import ReadOnlyAdmin, actor_of
from tenants.models import Tenant
from zcplatform.lib.errors import ZCError

FIELDS = [
    *("name", "metric", "comparison", "threshold", "hold_s"),
    *("severity", "repeat_s", "audience", "enabled"),
]


class RuleForm(forms.ModelForm):
    """What is valid is the service's word, told beside the field."""

    tenant = forms.ModelChoiceField(
        Tenant.objects.alive(),
        to_field_name="slug",
        required=False,
        widget=forms.TextInput,
        help_text="Its slug. Empty: the platform's rule, about itself or about every tenant.",
    )
    metric = forms.ChoiceField(choices=lambda: [(m.name, f"{m.label} ({m.unit}): {m.name}") for m in known()])

    class Meta:
        model = AlertRule
        fields = ["tenant", *FIELDS]
        help_texts = {"audience": "Whom a rule of the platform about tenants tells."}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        tenant = data.get("tenant", self.instance.tenant if self.instance.pk else None)
        if tenant is not None:
            data["audience"] = "tenant"
        try:
            services.checked({name: data[name] for name in FIELDS if name in data}, tenant)
        except ZCError as error:
            field = str(error.details.get("field", ""))
            self.add_error(field if field in self.fields else None, error.message)
        return data


@admin.register(AlertRule)
class AlertRuleAdmin(ReadOnlyAdmin):
    form = RuleForm
    list_display = ["name", "owner", "condition", "severity", "enabled", "firing"]
    list_filter = ["enabled", "severity", ("tenant", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["name", "metric", "tenant__slug"]
    ordering = ["name", "pk"]
    actions = None  # deleting in bulk would pass the service by

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_delete_permission(self, request: HttpRequest, obj: AlertRule | None = None) -> bool:
        return obj is None or obj.key is None

    def get_readonly_fields(self, request: HttpRequest, obj: AlertRule | None = None) -> list[str]:
        return ["tenant"] if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertRule]:
        firing = Count("alerts", filter=Q(alerts__state="firing"))
        return super().get_queryset(request).annotate(now_firing=firing)

    @admin.display(description="Whose", ordering="tenant__slug")
    def owner(self, rule: AlertRule) -> str:
        return rule.tenant.slug if rule.tenant else "the platform's"

    @admin.display(description="Condition")
    def condition(self, rule: AlertRule) -> str:
        return condition_of(rule)

    @admin.display(description="Firing", ordering="now_firing")
    def firing(self, rule: Any) -> int:
        return rule.now_firing

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if change:
            changes = {name: data[name] for name in FIELDS if name in form.changed_data}
            services.update_rule(actor=actor_of(request), rule=AlertRule.objects.get(pk=obj.pk), changes=changes)
            return
        values = {name: data[name] for name in FIELDS}
        obj.pk = services.create_rule(actor=actor_of(request), tenant=data["tenant"], values=values).pk

    def delete_model(self, request: HttpRequest, obj: AlertRule) -> None:
        services.delete_rule(actor=actor_of(request), rule=obj)
