"""Notifiers in the admin: forms made from the kinds' fields, secrets write-only."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from monitoring.alerting import agreements, contacts
from monitoring.alerting.models import Delivery, Notifier, Severity
from monitoring.alerting.notifiers import is_hidden, known_kinds, notifier_kind, secret_field
from monitoring.alerting.notifiers.base import NotifierKind
from tenants.admin.channels import form_field
from tenants.admin.configuration import HIDDEN, told
from tenants.admin.site import ReadOnlyAdmin, actor_of, refused_in, telling
from tenants.models import Tenant
from zcplatform.lib.redact import SecretStr

LIST = "admin:monitoring_notifier_changelist"
CHANGE = "admin:monitoring_notifier_change"


class NotifierForm(forms.Form):
    """What every notifier has, then the fields of its kind."""

    name = forms.CharField(max_length=80)
    tenant = forms.SlugField(required=False, help_text="A tenant's slug; empty: the platform's.")
    min_severity = forms.ChoiceField(choices=Severity.choices, label="From severity")
    enabled = forms.BooleanField(required=False, help_text="Off: what is to be sent waits.")

    def __init__(self, data: Any, kind: NotifierKind, notifier: Notifier | None = None) -> None:
        columns = ("name", "min_severity", "enabled")
        initial = {**notifier.config, **{name: getattr(notifier, name) for name in columns}} if notifier else {}
        super().__init__(data, initial=initial)
        del self.fields["tenant" if notifier else "enabled"]
        self.kind, self.hidden = kind, secret_field(kind)
        stored = told_secret(notifier) if notifier else ""
        for field in kind.fields:
            self.fields[field.name] = form_field(field, stored if field.secret else "")

    def clean_tenant(self) -> Tenant | None:
        slug = self.cleaned_data["tenant"]
        tenant = Tenant.objects.alive().filter(slug=slug).first() if slug else None
        if slug and tenant is None:
            raise forms.ValidationError("There is no such tenant.")
        return tenant

    def config(self) -> dict[str, Any]:
        """The kind's fields that were changed; a secret that was left empty stays."""
        names = [field.name for field in self.kind.fields if field.name in self.changed_data]
        given = {name: self.cleaned_data[name] for name in names}
        hidden = self.hidden.name if self.hidden else ""
        if hidden in given:
            given[hidden] = SecretStr(given[hidden]) if given[hidden] else None
        return {name: value for name, value in given.items() if value is not None}


def told_secret(notifier: Notifier) -> str:
    """What may be said of its secret."""
    return _(HIDDEN) if is_hidden(notifier) else told(notifier.secret)


@admin.register(Notifier)
class NotifierAdmin(ReadOnlyAdmin):
    list_display = ["name", "owner", "kind", "min_severity", "enabled", "last"]
    list_filter = ["kind", "enabled", ("tenant", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["name", "tenant__slug"]
    ordering = ["name", "pk"]
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notifier]:
        return super().get_queryset(request).select_related("tenant", "secret")

    @admin.display(description="Whose", ordering="tenant__slug")
    def owner(self, notifier: Notifier) -> str:
        return notifier.tenant.slug if notifier.tenant else "the platform's"

    @admin.display(description="Last message")
    def last(self, notifier: Notifier) -> str:
        row = notifier.deliveries.order_by("-pk").first()
        return f"{row.state}: {row.error}" if row and row.error else (row.state if row else "")

    def get_urls(self) -> list[URLPattern]:
        views = (("test", require_POST(test_view)), ("remove", require_POST(remove_view)))
        return [
            path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"monitoring_notifier_{name}")
            for name, view in views
        ] + super().get_urls()

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return _add(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return _change(request, object_id)


def test_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a test message and say what came of it."""
    row = _find(pk)
    with telling(request):
        delivery = contacts.test_notifier(actor=actor_of(request), notifier=row)
        arrived = delivery.state == Delivery.State.SENT
        level, text = (messages.SUCCESS, "The test message was sent.") if arrived else (messages.ERROR, delivery.error)
        messages.add_message(request, level, text)
    return redirect(CHANGE, pk)


def remove_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete the notifier with its secret and its log."""
    row = _find(pk)
    with telling(request):
        contacts.delete_notifier(actor=actor_of(request), notifier=row)
        messages.success(request, f"{row.name} was deleted.")
    return redirect(LIST)


def _add(request: HttpRequest) -> HttpResponse:
    """Without a kind: which there are. GET its form; POST makes the notifier."""
    name = request.GET.get("kind", "")
    if not name:
        return _page(request, "Add a notifier", kinds=known_kinds())
    if name not in {kind.name for kind in known_kinds()}:
        raise Http404
    kind = notifier_kind(name)
    form = NotifierForm(request.POST or None, kind=kind)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        about = {"name": data["name"], "min_severity": data["min_severity"], "tenant": data["tenant"]}
        with refused_in(form):
            made = contacts.create_notifier(actor=actor_of(request), kind=name, config=form.config(), **about)
            if made.secret:
                text = f"Its signing secret, shown only now: {made.secret.reveal()}"
                return _page(request, f"{kind.label} added", secret=text, notifier=made.notifier)
            return redirect(CHANGE, made.notifier.pk)
    return _page(request, f"Add {kind.label}", form=form, button="Add notifier")


def _change(request: HttpRequest, object_id: str) -> HttpResponse:
    row = _find(object_id)
    form = NotifierForm(request.POST or None, kind=notifier_kind(row.kind), notifier=row)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        columns = ("name", "min_severity", "enabled")
        changes: dict[str, Any] = {name: data[name] for name in columns if name in form.changed_data}
        changes |= {"config": config} if (config := form.config()) else {}
        with refused_in(form):
            if changes:
                contacts.update_notifier(actor=actor_of(request), notifier=row, changes=changes)
                messages.success(request, "Stored.")
                warn_of_hidden(request, row)
            return redirect(CHANGE, row.pk)
    log = row.deliveries.select_related("alert").order_by("-pk")[:20]
    told = agreements.states_of(row)
    return _page(request, row.name, form=form, button="Save", notifier=row, log=log, told=told)


def warn_of_hidden(request: HttpRequest, notifier: Notifier) -> None:
    """Say that another address took its secret out of use, and the notifier with it."""
    if is_hidden(_find(notifier.pk)):
        messages.warning(request, _("It is off: its secret was entered for another address. Enter it again."))


def _find(pk: int | str) -> Notifier:
    if not str(pk).isdecimal():
        raise Http404
    return get_object_or_404(Notifier.objects.select_related("tenant", "secret"), pk=pk)


def _page(request: HttpRequest, title: str, **context: Any) -> HttpResponse:
    context = {**admin.site.each_context(request), "opts": Notifier._meta, "title": title, **context}
    return TemplateResponse(request, "admin/monitoring/notifier.html", context)
