"""Who is told of a tenant's alerts: forms made from the kinds' fields, secrets write-only, each with a real test."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from monitoring.admin.notifiers import NotifierForm, warn_of_hidden
from monitoring.alerting import agreements, contacts
from monitoring.alerting.models import Delivery, Notifier
from monitoring.alerting.notifiers import known_kinds, notifier_kind
from monitoring.alerting.notifiers.base import NotifierKind
from monitoring.alerting.ownership import ABILITY
from tenants.admin.site import refused_in, telling
from tenants.models import Tenant
from tenants.pages.frame import Viewer, address, confirm, own, show, tenant_page
from tenants.pages.ownership import asked

LOG = 20


@tenant_page(ABILITY)
def notifiers_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Those there are, with what became of the last message, and the kinds that could be added."""
    last = Delivery.objects.filter(notifier=OuterRef("pk")).order_by("-pk")
    rows = tenant.notifiers.select_related("tenant").annotate(last_state=Subquery(last.values("state")[:1]))
    labels = {kind.name: kind.label for kind in known_kinds()}
    log = Delivery.objects.filter(notifier__tenant=tenant).select_related("notifier", "alert").order_by("-pk")
    context = {
        "rows": [(row, labels.get(row.kind, row.kind), agreements.states_of(row)) for row in rows],
        "kinds": known_kinds(),
        "log": log[:LOG],
        "part": "notifiers",
    }
    return show(request, "notifiers.html", tenant, viewer, "alerts", **context)


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def add_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, kind: str) -> HttpResponse:
    """GET the form of this kind; POST makes the notifier, and shows a secret that was made for it this once."""
    if kind not in {known.name for known in known_kinds()}:
        raise Http404
    form = _form(request, notifier_kind(kind))
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _made(request, tenant, viewer, form)
    title = _("Tell by %(kind)s") % {"kind": form.kind.label}
    return _asked(request, tenant, viewer, form, title=title, button=_("Add notifier"))


def _made(request: HttpRequest, tenant: Tenant, viewer: Viewer, form: NotifierForm) -> HttpResponse:
    data = form.cleaned_data
    made = contacts.create_notifier(
        actor=viewer.actor,
        tenant=tenant,
        kind=form.kind.name,
        name=data["name"],
        config=form.config(),
        min_severity=data["min_severity"],
    )
    if made.secret is None:
        text = _("%(name)s is added. Send a test message next.")
        if agreements.WAITING in agreements.states_of(made.notifier).values():
            text = _("%(name)s is added. Addresses that have not agreed yet are asked by mail first.")
        messages.success(request, text % {"name": made.notifier.name})
        return redirect(address(tenant, "notifiers"))
    context = {"notifier": made.notifier, "secret": made.secret.reveal()}
    answer = show(request, "notifier_secret.html", tenant, viewer, "alerts", **context)
    answer["Cache-Control"] = "no-store, private"
    return answer


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def change_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, notifier: UUID) -> HttpResponse:
    """GET the form; POST stores what was changed. A secret that is left empty stays."""
    row = _find(tenant, notifier)
    form = _form(request, notifier_kind(row.kind), row)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            if changes := _changes(form):
                contacts.update_notifier(actor=viewer.actor, notifier=row, changes=changes)
            messages.success(request, _("%(name)s is stored.") % {"name": form.cleaned_data["name"]})
            warn_of_hidden(request, row)
            return redirect(address(tenant, "notifiers"))
    remove = address(tenant, "notifier_delete", row.public_id)
    return _asked(request, tenant, viewer, form, title=row.name, button=_("Save"), remove=remove)


def _changes(form: NotifierForm) -> dict[str, Any]:
    names = ("name", "min_severity", "enabled")
    changes = {name: form.cleaned_data[name] for name in names if name in form.changed_data}
    return changes | ({"config": config} if (config := form.config()) else {})


@tenant_page(ABILITY, "POST")
def test_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, notifier: UUID) -> HttpResponse:
    """Send a test message at once, and say what came of it."""
    row = _find(tenant, notifier)
    with telling(request):
        sent = contacts.test_notifier(actor=viewer.actor, notifier=row)
        if sent.state == Delivery.State.SENT:
            messages.success(request, _("%(name)s: the test message was sent.") % {"name": row.name})
        else:
            messages.error(request, f"{row.name}: {sent.error}")
    return redirect(address(tenant, "notifiers"))


@tenant_page(ABILITY, "GET", "HEAD", "POST")
def delete_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, notifier: UUID) -> HttpResponse:
    """GET asks; POST deletes it with its secret and its log."""
    row = _find(tenant, notifier)
    if request.method == "POST":
        with telling(request):
            contacts.delete_notifier(actor=viewer.actor, notifier=row)
            messages.success(request, _("%(name)s was deleted.") % {"name": row.name})
        return redirect(address(tenant, "notifiers"))
    return confirm(
        request,
        tenant,
        viewer,
        "alerts",
        title=_("Delete the notifier “%(name)s”?") % {"name": row.name},
        notes=[_("Its secret, what waits for it and its log go with it.")],
        button=_("Delete the notifier"),
        back=address(tenant, "notifier", row.public_id),
    )


def _form(request: HttpRequest, kind: NotifierKind, row: Notifier | None = None) -> NotifierForm:
    form = NotifierForm(request.POST if request.method == "POST" else None, kind=kind, notifier=row)
    form.fields.pop("tenant", None)  # the page's
    return form


def _asked(request: HttpRequest, tenant: Tenant, viewer: Viewer, form: NotifierForm, **context: Any) -> HttpResponse:
    return asked(request, tenant, viewer, "alerts", form=form, back=address(tenant, "notifiers"), **context)


def _find(tenant: Tenant, public_id: UUID) -> Notifier:
    return own(Notifier.objects.select_related("secret"), tenant, public_id)
