"""The tenants' part of the JSON API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninja import NinjaAPI


def mount(api: NinjaAPI) -> None:
    """Add the routes of this app."""
    from tenants.api import (
        access_tokens,
        audit,
        channels,
        config,
        exec,
        explain,
        invitations,
        logs,
        members,
        operations,
        pairing,
        plans,
        runs,
        tenants,
    )

    of_tenants = (
        tenants,
        operations,
        config,
        channels,
        members,
        invitations,
        access_tokens,
        pairing,
        logs,
        exec,
        audit,
    )
    for module in of_tenants:
        api.add_router("/tenants", module.router)
    api.add_router("/tenants", runs.tenant_router)
    api.add_router("/runs", runs.router)
    api.add_router("/invitations", invitations.accept_router)
    api.add_router("/explain", explain.router)
    api.add_router("/plans", plans.router)
    api.add_router("/admin/plans", plans.admin_router)
