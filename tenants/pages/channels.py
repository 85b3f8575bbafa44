"""A tenant's channels: forms made from the schemas, secrets write-only, each with a real test."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tenants import configuration, connections
from tenants.admin.channels import ChannelForm, rows_of, warn_of_hidden
from tenants.admin.site import refused_in, telling
from tenants.agents import agent_kind
from tenants.channels import CHANNELS, ChannelKind
from tenants.models import Channel, Tenant
from tenants.pages.configuration import stored
from tenants.pages.frame import Viewer, address, confirm, own, show, tenant_page
from zcplatform.lib.errors import ZCError


@tenant_page("channels.view")
def channels_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """What there is, and what could be added."""
    context = {"rows": rows_of(tenant), "kinds": kinds_for(tenant)}
    return show(request, "channels.html", tenant, viewer, "channels", **context)


def kinds_for(tenant: Tenant) -> list[ChannelKind]:
    """The kinds that this tenant's agent can carry."""
    able = agent_kind(tenant.agent_kind).channels
    return [kind for kind in CHANNELS.values() if kind.name in able]


@tenant_page("channels.update", "GET", "HEAD", "POST")
def add_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, kind: str) -> HttpResponse:
    """GET the form of this kind; POST adds the channel."""
    schema = CHANNELS.get(kind)
    if schema is None:
        raise Http404
    form = ChannelForm(request.POST or None, kind=schema)
    back = "setup_channels" if request.GET.get("from") == "setup" else "channels"
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            _, run = configuration.add_channel(actor=viewer.actor, tenant=tenant, kind=kind, values=form.values())
            return stored(request, tenant, run, _added(schema), back)
    context = {"form": form, "schema": schema, "channel": None, "back": address(tenant, back)}
    return show(request, "channel.html", tenant, viewer, "channels", **context)


def _added(schema: ChannelKind) -> str:
    return _("%(channel)s added") % {"channel": schema.label}


@tenant_page("channels.update", "GET", "HEAD", "POST")
def change_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, channel: UUID) -> HttpResponse:
    """GET the form; POST stores what was changed."""
    row = find(tenant, channel)
    form = ChannelForm(request.POST or None, kind=CHANNELS[row.channel_type], channel=row)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _change(request, tenant, viewer, row, form)
    context: dict[str, Any] = {"form": form, "schema": form.kind, "channel": row, "back": address(tenant, "channels")}
    return show(request, "channel.html", tenant, viewer, "channels", **context)


def _change(request: HttpRequest, tenant: Tenant, viewer: Viewer, row: Channel, form: ChannelForm) -> HttpResponse:
    if not form.has_changed():
        messages.info(request, _("Nothing was changed."))
        return redirect(address(tenant, "channels"))
    enabled = form.cleaned_data["enabled"] if "enabled" in form.changed_data else None
    run = configuration.update_channel(actor=viewer.actor, channel=row, values=form.values(), enabled=enabled)
    warn_of_hidden(request, row)
    return stored(request, tenant, run, _("%(channel)s stored") % {"channel": form.kind.label}, "channels")


@tenant_page("channels.update", "POST")
def test_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, channel: UUID) -> HttpResponse:
    """Ask the channel's service whether it knows us; nothing is sent to anybody."""
    row = find(tenant, channel)
    try:
        result = connections.try_channel(actor=viewer.actor, channel=row)
    except ZCError as error:
        result = connections.Result(False, error.message)
    tell = messages.success if result.ok else messages.info if result.ok is None else messages.error
    tell(request, f"{CHANNELS[row.channel_type].label}: {result.message}")
    return redirect(address(tenant, "setup_channels" if request.POST.get("from") == "setup" else "channels"))


@tenant_page("channels.update", "GET", "HEAD", "POST")
def remove_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, channel: UUID) -> HttpResponse:
    """GET asks; POST removes the channel with its secrets."""
    row = find(tenant, channel)
    label = CHANNELS[row.channel_type].label
    if request.method == "POST":
        with telling(request):
            run = configuration.delete_channel(actor=viewer.actor, channel=row)
            return stored(request, tenant, run, _("%(channel)s removed") % {"channel": label}, "channels")
        return redirect(address(tenant, "channels"))
    return confirm(
        request,
        tenant,
        viewer,
        "channels",
        title=_("Remove %(channel)s?") % {"channel": label},
        notes=[_("Its settings and secrets are lost, and nobody reaches the agent by it any more.")],
        button=_("Remove %(channel)s") % {"channel": label},
        back=address(tenant, "channels"),
    )


def find(tenant: Tenant, public_id: UUID) -> Channel:
    """NotFound for another tenant's channel, as for one that is none."""
    return own(Channel.objects.all(), tenant, public_id)
