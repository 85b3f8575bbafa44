"""The tenants' part of the JSON API."""

from __future__ import annotations

from ninja import NinjaAPI

from tenants.api.access_tokens import router as access_tokens
from tenants.api.audit import router as audit
from tenants.api.channels import router as channels
from tenants.api.config import router as config
from tenants.api.exec import router as exec_
from tenants.api.explain import router as explain
from tenants.api.invitations import accept_router
from tenants.api.invitations import router as invitations
from tenants.api.logs import router as logs
from tenants.api.members import router as members
from tenants.api.operations import router as operations
from tenants.api.pairing import router as pairing
from tenants.api.plans import admin_router
from tenants.api.plans import router as plans
from tenants.api.runs import router as runs
from tenants.api.runs import tenant_router as tenant_runs
from tenants.api.tenants import router as tenants

_OF_TENANTS = (
    tenants,
    operations,
    tenant_runs,
    config,
    channels,
    members,
    invitations,
    access_tokens,
    pairing,
    logs,
    exec_,
    audit,
)


def mount(api: NinjaAPI) -> None:
    """Add the routes of this app."""
    for router in _OF_TENANTS:
        api.add_router("/tenants", router)
    api.add_router("/runs", runs)
    api.add_router("/invitations", accept_router)
    api.add_router("/explain", explain)
    api.add_router("/plans", plans)
    api.add_router("/admin/plans", admin_router)
