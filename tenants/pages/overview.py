"""A tenant's first page: state, why, what can be done, and what happened last."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audit import words
from audit.actions import ACTIONS
from audit.models import AuditEntry
from tenants import invitations, quotas
from tenants.admin.configuration import told_key
from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.pages.bars import Bar, bar_of
from tenants.pages.frame import Viewer, forbidden, head, look, look_back, show, signed_in, tenant_page
from tenants.providers import PROVIDERS
from tenants.states import Status
from zcplatform.lib.errors import InvalidField

LAST = 6


@tenant_page("tenant.view")
def overview_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Everything that is needed to judge whether all is well."""
    provider = PROVIDERS.get(tenant.config.provider_name)
    context: dict[str, Any] = {
        "agent": agent_label(tenant.agent_kind),
        "provider": provider.label if provider and provider.has_model else "",
        "provider_key": told_key(tenant),
        "channel_count": tenant.channels.count(),
        "member_count": tenant.members.count(),
        "invited_count": invitations.open_ones(tenant).count(),
        "bars": bars(tenant) if viewer.may["metrics_view"] else [],
        "entries": last_entries(tenant) if viewer.may["audit_read"] else [],
        "runs": tenant.runs.order_by("-pk")[:LAST],
    }
    return show(request, "overview.html", tenant, viewer, "overview", **context)


@signed_in("GET", "HEAD")
def state_view(request: HttpRequest, slug: str) -> HttpResponse:
    """The head alone, as it is now: what an open page asks for again and again. ``id`` says of which tenant, since
    another one may bear the slug by now; of one that was deleted the answer is the last that is asked for."""
    tenant, viewer = look_back(request, slug) if "id" in request.GET else look(request, slug)
    if "tenant.view" not in viewer.abilities:
        return forbidden(request, tenant, viewer, "tenant.view")
    gone = tenant.status == Status.DELETED
    return render(request, "tenants/pages/_head.html", {**head(tenant, viewer), "gone": gone})


def bars(tenant: Tenant) -> list[Bar]:
    return [bar_of(quota) for quota in quotas.of(tenant)]


def last_entries(tenant: Tenant) -> list[tuple[AuditEntry, str, str]]:
    """What people and the platform did; that it read a secret, as it does for each start and log line, is no change."""
    rows = AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).exclude(**words.ROUTINE).order_by("-id")[:LAST]
    return [(entry, ACTIONS.get(entry.action, entry.action), words.who(entry)) for entry in rows]


def agent_label(kind: str) -> str:
    """The kind's label; its bare name when the settings know the kind no more."""
    try:
        return agent_kind(kind).label
    except InvalidField:
        return kind
