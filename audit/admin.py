"""The audit in the admin: to be read and exported, never to be written."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from audit import export, words
from audit.actions import ACTIONS
from audit.models import AuditEntry
from audit.services import OUTCOMES, record
from zcplatform.lib import clock
from zcplatform.lib.admin_lists import CappedPaginator

SEARCHED = 200_000
"""A search without an index walks over so many of the newest rows, and no further."""
_FORMS = {"csv": ("text/csv", export.as_csv), "json": ("application/json", export.as_json)}


class ActionFilter(admin.SimpleListFilter):
    """By what the registered actions are about; asking the table for those it holds would walk over it.

    In the address a whole action is understood as well: ``?action=tenant.delete``.
    """

    title, parameter_name = "about", "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        nouns = sorted({name.split(".")[0] for name in ACTIONS})
        return [(noun, noun.replace("_", " ")) for noun in nouns]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        value = self.value()
        if not value or "." in value:
            return queryset.filter(action=value) if value else queryset
        # "/" is the character behind ".": a range, which the index serves.
        return queryset.filter(action__gt=f"{value}.", action__lt=f"{value}/")


class OutcomeFilter(admin.SimpleListFilter):
    """How it ended."""

    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(name, name) for name in OUTCOMES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return newest(queryset.filter(outcome=self.value())) if self.value() else queryset


def newest(rows: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """Those among the last ``SEARCHED`` ids."""
    last = AuditEntry.objects.aggregate(last=Max("id"))["last"] or 0
    return rows.filter(id__gt=last - SEARCHED)


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):
    list_display = ("id", "when", "who", "what", "outcome", "target")
    list_filter = (ActionFilter, OutcomeFilter)
    search_fields = ("actor_email", "resource_id", "tenant_id", "request_id")
    search_help_text = f"E-mail, tenant, target or request id, whole; among the newest {SEARCHED:,} rows"
    ordering = ("-id",)
    sortable_by = ("id",)
    list_per_page = 100
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None

    @admin.display(description="When")
    def when(self, entry: AuditEntry) -> str:
        return format_html('<span class="nowrap">{}</span>', clock.in_words(entry.created_at))

    @admin.display(description="Who")
    def who(self, entry: AuditEntry) -> str:
        return words.who(entry)

    @admin.display(description="Target")
    def target(self, entry: AuditEntry) -> str:
        return f"{entry.resource_type.replace('_', ' ')} {words.subject(entry)}".strip()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list under its plain name."""
        return super().changelist_view(request, {"title": "Audit", **(extra_context or {})})

    @admin.display(description="Action")
    def what(self, entry: AuditEntry) -> str:
        return entry.action

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Whole values only, and only among the newest rows: a part of a text could not use an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(tenant_id=term) | Q(resource_id=term) | Q(request_id=term) | Q(actor_email=term.lower())
        return newest(queryset.filter(wanted)), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.export_view))
        return [path("export/<slug:form>/", view, name="audit_auditentry_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest, form: str) -> HttpResponse:
        """The rows of the list as it is filtered, the newest first, at most ``export.MOST``; recorded itself."""
        if form not in _FORMS:
            raise Http404
        kind, told = _FORMS[form]
        rows = self.get_changelist_instance(request).get_queryset(request).order_by("-id")[: export.MOST]
        text = told(rows)
        with transaction.atomic():
            record("audit.export", actor=_actor(request), detail={"form": form, "filter": dict(request.GET.items())})
        answer = HttpResponse(text, content_type=f"{kind}; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="audit-{clock.now():%Y-%m-%d-%H%M%S}.{form}"'
        return answer


def _actor(request: HttpRequest) -> Any:
    origin = {"ip": getattr(request, "client_ip", ""), "request_id": getattr(request, "request_id", "")}
    return request.user.as_actor(**origin)  # type: ignore[union-attr]
