"""A tenant's page and its logs: read only, state first."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse

from audit import words as audit_words
from audit.actions import ACTIONS
from audit.models import AuditEntry
from audit.words import ROUTINE
from tenants import operations, words
from tenants.admin.actions import VERBS, offered
from tenants.admin.channels import rows_of
from tenants.admin.configuration import told_key
from tenants.admin.members import role_choices
from tenants.admin.runs import timeline
from tenants.admin.site import actor_of, find, page, telling
from tenants.agents import agent_kind
from tenants.egress import policy
from tenants.models import Run, StepRecord, Tenant
from tenants.providers import PROVIDERS
from tenants.routing import router
from tenants.tokens import live
from zcplatform.lib.ansi import plain
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.terminal import visible

LAST = 10
TAIL = 200


def tenant_view(request: HttpRequest, pk: str) -> HttpResponse:
    """State, what can be done, and what belongs to the tenant."""
    if not pk.isdecimal():
        raise Http404
    tenant = find(int(pk))
    steps = Prefetch("steps", StepRecord.objects.order_by("position"))
    runs = list(tenant.runs.order_by("-pk").prefetch_related(steps)[:LAST])
    context = {**_state(tenant, runs), **_belongings(tenant), **_history(tenant, runs)}
    return page(request, "tenant.html", title=tenant.slug, tenant=tenant, **context)


def logs_view(request: HttpRequest, pk: int) -> HttpResponse:
    """The last lines that the agent printed, its secrets taken out."""
    tenant = find(pk)
    text = ""
    with telling(request):
        text = operations.read_logs(actor=actor_of(request), tenant=tenant, tail=TAIL, times=True)
    text = visible(plain(text))
    return page(request, "logs.html", title=f"Logs of {tenant.slug}", tenant=tenant, text=text, tail=TAIL)


def _state(tenant: Tenant, runs: list[Run]) -> dict[str, Any]:
    primary, others = offered(tenant, busy=any(run.is_active for run in runs))
    return {
        "headline": words.headline(tenant),
        "next_step": words.next_step(tenant),
        "primary": VERBS.get(primary),
        "verbs": [VERBS[name] for name in others],
        "holds": tenant.holds.filter(lifted_at__isnull=True).order_by("set_at"),
        "address": router().url(tenant.slug) if tenant.routed else "",
    }


def _belongings(tenant: Tenant) -> dict[str, Any]:
    provider = PROVIDERS.get(tenant.config.provider_name)
    return {
        "agent": _agent_label(tenant),
        "provider": provider.label if provider and provider.has_model else "",
        "provider_key": told_key(tenant),
        "egress": policy.mode_of(tenant),
        "channels": rows_of(tenant),
        "members": tenant.members.select_related("user").order_by("user__email"),
        "roles": role_choices(),
        "tokens": live().filter(tenant=tenant).order_by("pk"),
        "token_key": uuid4().hex,
    }


def _history(tenant: Tenant, runs: list[Run]) -> dict[str, Any]:
    entries = list(AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).exclude(**ROUTINE).order_by("-id")[:LAST])
    return {
        "run": runs[0] if runs else None,
        "lines": timeline(runs[0]) if runs else [],
        "runs": runs,
        "entries": [(entry, ACTIONS.get(entry.action, entry.action), audit_words.who(entry)) for entry in entries],
    }


def _agent_label(tenant: Tenant) -> str:
    """The kind's label; its bare name when the settings know the kind no more."""
    try:
        return agent_kind(tenant.agent_kind).label
    except InvalidField:
        return tenant.agent_kind
