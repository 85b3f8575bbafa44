"""Plans and nodes in the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from tenants import capacity
from tenants.admin.site import ReadOnlyAdmin, actor_of
from tenants.models import Node, Plan

_LABELS = {
    "max_channels": "Channels",
    "max_members": "Members",
    "max_messages_per_day": "Messages a day",
    "max_tokens_per_month": "Tokens a month",
    "cpu_limit": "Cores",
    "memory_limit_mb": "Memory, MB",
    "pids_limit": "Processes",
    "disk_limit_mb": "Disk, MB",
}


def _number(name: str) -> Callable[[Plan], str]:
    """A column of the list: the number, aligned and grouped."""

    @admin.display(description=_LABELS[name], ordering=name)
    def column(plan: Plan) -> str:
        return format_html('<span class="num">{}</span>', f"{getattr(plan, name):,}")

    return column


class PlanForm(forms.ModelForm):
    """The bounds are the service's, so that a slip is told beside its field."""

    class Meta:
        model = Plan
        fields = ["slug", "name", *_LABELS]
        labels = _LABELS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, highest in capacity.PLAN_LIMITS.items():
            low = capacity.LEAST_CPU if name == "cpu_limit" else 1
            field = self.fields[name]
            field.validators += [MinValueValidator(low)]
            field.validators += [MaxValueValidator(highest)]
            field.widget.attrs |= {"min": low, "max": highest}


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    form = PlanForm
    list_display = ["name", "slug", "tenants", *(_number(name) for name in _LABELS)]
    ordering = ["memory_limit_mb", "name"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        return ["slug"] if obj else []  # scripts and platform.toml refer to it

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        alive = Count("tenants", filter=~Q(tenants__status="deleted"))
        return super().get_queryset(request).annotate(alive=alive)

    @admin.display(description="Tenants", ordering="alive")
    def tenants(self, plan: Any) -> int:
        return plan.alive

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        data, actor = form.cleaned_data, actor_of(request)
        limits = {name: data[name] for name in _LABELS}
        if change:
            capacity.update_plan(actor=actor, plan=obj, name=data["name"], limits=limits)
        else:
            obj.pk = capacity.create_plan(actor=actor, slug=data["slug"], name=data["name"], limits=limits).pk


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ["name", "runtime", "state", "address", "used", "slots"]
    list_filter = ["runtime", "state"]
    readonly_fields = ["name", "runtime", "endpoint", "address", "port_first", "port_last", "uid_first", "uid_last"]
    fields = [*readonly_fields, "state"]
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return super().get_queryset(request).annotate(taken=Count("tenants", filter=Q(tenants__slot__isnull=False)))

    @admin.display(description="Slots used", ordering="taken")
    def used(self, node: Any) -> int:
        return node.taken

    @admin.display(description="Slots")
    def slots(self, node: Node) -> int:
        return node.capacity

    def save_model(self, request: HttpRequest, obj: Node, form: Any, change: bool) -> None:
        capacity.set_node_state(actor=actor_of(request), node=obj, state=form.cleaned_data["state"])
