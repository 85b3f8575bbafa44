"""The list of tenants, and the addresses of everything that can be done from a tenant's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST, require_safe

from tenants import words
from tenants.admin import actions, channels, configuration, create, members, pages, tokens
from tenants.admin.site import ReadOnlyAdmin
from tenants.models import Member, Tenant
from tenants.routing import router
from tenants.states import Reason, Status


class StatusFilter(admin.SimpleListFilter):
    """Deleted tenants are shown only when somebody asks for them."""

    title, parameter_name = "status", "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Status.choices

    def choices(self, changelist: Any) -> Any:
        for number, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "All but deleted"} if number == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        return queryset.filter(status=self.value()) if self.value() else queryset.exclude(status=Status.DELETED)


class ReasonFilter(admin.SimpleListFilter):
    """The reasons that some tenant has now."""

    title, parameter_name = "reason", "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        rows = Tenant.objects.alive().exclude(reason=Reason.NONE).order_by("reason")
        return [(value, Reason(value).label) for value in rows.values_list("reason", flat=True).distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        return queryset.filter(reason=self.value()) if self.value() else queryset


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ["slug", "state", "why", "plan", "agent", "node", "port", "address", "people"]
    list_filter = [StatusFilter, ReasonFilter, "plan", "agent_kind", "node"]
    list_select_related = ["plan", "node"]
    search_fields = ["slug", "name", "public_id"]
    search_help_text = "Slug, name or public id"
    ordering = ["slug"]
    list_per_page = actions.MAX_AT_ONCE
    actions = [actions.bulk(name) for name in actions.BULK]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        members = Member.objects.filter(tenant=OuterRef("pk")).order_by().values("tenant")
        counted = Subquery(members.annotate(count=Count("pk")).values("count"), output_field=IntegerField())
        return super().get_queryset(request).annotate(people=Coalesce(counted, 0))

    @admin.display(description="Status", ordering="status")
    def state(self, tenant: Tenant) -> str:
        return render_to_string("_status_pill.html", {"status": tenant.seen_as})

    @admin.display(description="Reason", ordering="reason")
    def why(self, tenant: Tenant) -> str:
        return words.reason(tenant)

    @admin.display(description="Agent", ordering="agent_kind")
    def agent(self, tenant: Tenant) -> str:
        return tenant.agent_kind

    @admin.display(description="Address")
    def address(self, tenant: Tenant) -> str:
        if not tenant.routed:
            return ""
        url = router().url(tenant.slug)
        return format_html('<a href="{}" title="{}" rel="noopener">Open</a>', url, url)

    @admin.display(description="Members", ordering="people")
    def people(self, tenant: Any) -> int:
        return tenant.people

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return create.create_view(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return require_safe(pages.tenant_view)(request, object_id)

    def get_urls(self) -> list[URLPattern]:
        views: list[tuple[str, str, Callable[..., HttpResponse]]] = [
            ("<int:pk>/do/<slug:name>/", "act", actions.act_view),
            ("<int:pk>/logs/", "logs", require_safe(pages.logs_view)),
            ("<int:pk>/configuration/", "configuration", configuration.configuration_view),
            ("<int:pk>/channels/add/", "channel_kinds", require_safe(channels.kinds_view)),
            ("<int:pk>/channels/add/<slug:kind>/", "channel_add", channels.add_view),
            ("<int:pk>/channels/<uuid:channel>/", "channel", channels.change_view),
            ("<int:pk>/channels/<uuid:channel>/delete/", "channel_delete", channels.delete_view),
            ("<int:pk>/members/set/", "member_set", require_POST(members.set_view)),
            ("<int:pk>/members/<uuid:member>/remove/", "member_remove", require_POST(members.remove_view)),
            ("<int:pk>/tokens/issue/", "token_issue", require_POST(tokens.issue_view)),
            ("<int:pk>/tokens/<uuid:token>/revoke/", "token_revoke", require_POST(tokens.revoke_view)),
        ]
        return [
            path(route, self.admin_site.admin_view(view), name=f"tenants_tenant_{name}") for route, name, view in views
        ] + super().get_urls()
