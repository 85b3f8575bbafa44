"""Who did what to a tenant: the part of the audit that is about it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from accounts.permissions import ABILITIES
from audit import words
from audit.actions import ACTIONS
from audit.models import AuditEntry
from tenants.channels import CHANNELS
from tenants.models import Tenant
from tenants.pages.frame import Viewer, show, tenant_page
from tenants.pages.paging import page_of
from tenants.providers import PROVIDERS
from tenants.states import Egress, HoldKind, Reason, RunKind

NAMES: words.Names = {
    "ability": ABILITIES,
    "hold": dict(HoldKind.choices),
    "kind": dict([*RunKind.choices, *HoldKind.choices]) | {kind.name: kind.label for kind in CHANNELS.values()},
    "mode": dict(Egress.choices),
    "provider": {kind.name: kind.label for kind in PROVIDERS.values()},
    "reason": dict(Reason.choices),
}


@tenant_page("audit.read")
def audit_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The newest first, fifty a page."""
    rows = page_of(AuditEntry.objects.filter(tenant_id=str(tenant.public_id)), request, key="id", descending=True)
    lines = [
        (entry, ACTIONS.get(entry.action, entry.action), told(entry) if count == 1 else "", words.who(entry), count)
        for entry, count in words.together(rows)
    ]
    return show(request, "audit.html", tenant, viewer, "audit", rows=rows, lines=lines)


def told(entry: AuditEntry) -> str:
    """What the row is about, unless that is the tenant whose page this is, and its detail."""
    about = words.subject(entry) if entry.resource_type != "tenant" else ""
    return " · ".join(filter(None, (about, words.detail(entry, NAMES))))
