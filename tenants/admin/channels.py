"""A tenant's channels: forms made from the schemas, secrets write-only."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _

from tenants import configuration, origins
from tenants.admin.configuration import SecretField, applied, state_of, told_tie
from tenants.admin.site import actor_of, find, page, refused_in, telling
from tenants.agents import agent_kind
from tenants.channels import CHANNELS, ChannelKind
from tenants.fields import Field
from tenants.models import Channel, Tenant, TenantSecret
from zcplatform.lib.redact import SecretStr


class LinesField(forms.CharField):
    """A list, one entry per line."""

    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(data) != (initial or [])


class ChannelForm(forms.Form):
    """One field per field of the schema; what it means to be valid is the schema's word."""

    def __init__(self, data: Any, kind: ChannelKind, channel: Channel | None = None) -> None:
        initial = {**channel.config, "enabled": channel.enabled} if channel else {}
        super().__init__(data, initial=initial)
        self.kind = kind
        stored = {tie.field: told_tie(tie) for tie in ties_of(channel)} if channel else {}
        for field in kind.fields:
            self.fields[field.name] = form_field(field, stored.get(field.name, ""))
        if channel:
            self.fields["enabled"] = forms.BooleanField(required=False, help_text="Off: kept, but not in use.")

    def values(self) -> dict[str, Any]:
        """What was changed, secrets among it; a secret that was left empty is not."""
        secret = self.kind.secret_fields
        given = {name: self.cleaned_data[name] for name in self.changed_data if name != "enabled"}
        given = {name: value for name, value in given.items() if value or name not in secret}
        return {name: SecretStr(value) if name in secret else value for name, value in given.items()}


def form_field(field: Field, stored: str) -> forms.Field:
    """The form's field for one of a schema; ``stored`` says in words what is there of a secret one."""
    said = _(field.help) if field.help else ""
    common: dict[str, Any] = {"label": _(field.label), "help_text": said, "required": field.required and not stored}
    if field.secret:
        common["help_text"] = f"{said} {state_of(stored)}".strip() if stored else said
        return SecretField(**common)
    if field.type == "boolean":
        return forms.BooleanField(**{**common, "required": False})
    if field.type in ("integer", "number"):
        made: Any = forms.IntegerField if field.type == "integer" else forms.FloatField
        return made(min_value=field.low, max_value=field.high, **common)
    if field.type == "list":
        return LinesField(**{**common, "help_text": f"{said} {_('One per line.')}".strip()})
    if field.choices:
        return forms.ChoiceField(choices=[("", "—"), *((c, c) for c in field.choices)], **common)
    return forms.CharField(max_length=field.max_length, **common)


def rows_of(tenant: Tenant) -> list[tuple[Channel, str, str]]:
    """Channel, its kind's label, and its secrets in words."""
    ties = TenantSecret.objects.select_related("secret", "channel")
    channels = tenant.channels.prefetch_related(Prefetch("secrets", ties)).order_by("pk")
    return [(channel, _label(channel), _secrets(channel)) for channel in channels]


def _label(channel: Channel) -> str:
    kind = CHANNELS.get(channel.channel_type)
    return kind.label if kind else channel.channel_type


def _secrets(channel: Channel) -> str:
    return "; ".join(f"{tie.field.replace('_', ' ')} {told_tie(tie)}" for tie in channel.secrets.all())


def ties_of(channel: Channel) -> QuerySet[TenantSecret]:
    return channel.secrets.select_related("secret", "channel")


def kinds_view(request: HttpRequest, pk: int) -> HttpResponse:
    """What this tenant's agent could carry."""
    tenant = find(pk)
    able = agent_kind(tenant.agent_kind).channels
    kinds = [kind for kind in CHANNELS.values() if kind.name in able]
    return page(request, "channel_kinds.html", title="Add a channel", tenant=tenant, kinds=kinds)


def add_view(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """GET the form of this kind; POST adds the channel."""
    tenant, schema = find(pk), CHANNELS.get(kind)
    if schema is None:
        raise Http404
    form = ChannelForm(request.POST or None, kind=schema)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            _, run = configuration.add_channel(actor=actor_of(request), tenant=tenant, kind=kind, values=form.values())
            applied(request, f"{schema.label} added", run)
            return redirect("admin:tenants_tenant_change", pk)
    context: dict[str, Any] = {"form": form, "lead": schema.help, "button": "Add channel"}
    return page(request, "form.html", title=f"Add {schema.label} to {tenant.slug}", tenant=tenant, **context)


def change_view(request: HttpRequest, pk: int, channel: UUID) -> HttpResponse:
    """GET the form; POST stores what was changed."""
    tenant, row = find(pk), _channel(pk, channel)
    form = ChannelForm(request.POST or None, kind=CHANNELS[row.channel_type], channel=row)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            if form.has_changed():
                enabled = form.cleaned_data["enabled"] if "enabled" in form.changed_data else None
                values = form.values()
                run = configuration.update_channel(actor=actor_of(request), channel=row, values=values, enabled=enabled)
                applied(request, f"{_label(row)} stored", run)
                warn_of_hidden(request, row)
            return redirect("admin:tenants_tenant_change", pk)
    context: dict[str, Any] = {"form": form, "lead": form.kind.help, "button": "Save and apply", "channel": row}
    return page(request, "form.html", title=f"{_label(row)} of {tenant.slug}", tenant=tenant, **context)


def warn_of_hidden(request: HttpRequest, row: Channel) -> None:
    """Say that a change of address took secrets out of use, and the channel with those that it needs."""
    row.refresh_from_db()
    hidden = [tie.field.replace("_", " ") for tie in ties_of(row) if origins.is_hidden(tie)]
    if hidden:
        text = _("Entered for another address and not used any more: %(names)s. Enter it again.")
        messages.warning(request, text % {"names": ", ".join(hidden)})


def delete_view(request: HttpRequest, pk: int, channel: UUID) -> HttpResponse:
    """GET asks; POST removes the channel with its secrets."""
    tenant, row = find(pk), _channel(pk, channel)
    if request.method != "POST":
        title = f"Remove {_label(row)} from {tenant.slug}?"
        lead = "Its settings and secrets are lost, and nobody reaches the agent by it any more."
        context: dict[str, Any] = {"form": forms.Form(), "lead": lead, "button": "Remove channel", "danger": True}
        return page(request, "form.html", title=title, tenant=tenant, **context)
    with telling(request):
        applied(request, f"{_label(row)} removed", configuration.delete_channel(actor=actor_of(request), channel=row))
    return redirect("admin:tenants_tenant_change", pk)


def _channel(pk: int, public_id: UUID) -> Channel:
    return get_object_or_404(Channel.objects.select_related("tenant"), tenant_id=pk, public_id=public_id)
