"""Which routes should exist, and bringing the router to them."""

from __future__ import annotations

from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.routing import router
from tenants.routing.base import Route, SyncResult


def desired() -> list[Route]:
    """One route for every tenant that is to be reachable, from the database."""
    rows = Tenant.objects.routed().order_by("pk").values_list("public_id", "slug", "port", "agent_kind")
    return [Route(str(pid), slug, port, agent_kind(kind).public_paths) for pid, slug, port, kind in rows]


def sync() -> SyncResult:
    """Bring the router to the desired routes. DependencyDown ``route_pending`` when it does not answer."""
    return router().sync(desired)


def differences() -> SyncResult:
    """What ``sync`` would change."""
    return router().differences(desired())
