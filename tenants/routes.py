"""Which routes should exist, and bringing the router to them."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.routing import router
from tenants.routing.base import Route, SyncResult
from tenants.states import Reason
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.slugs import check_slug


def desired() -> list[Route]:
    """One route for every tenant that is to be reachable, from the database."""
    rows = Tenant.objects.routed().order_by("pk").values_list("public_id", "slug", "port", "agent_kind")
    found = [contained(partial(_route, *row), None, what="tenant is not routed", slug=row[1]) for row in rows]
    return [route for route in found if route]


def _route(public_id: UUID, slug: str, port: int, kind: str) -> Route:
    """InvalidField for a name that became reserved after the tenant was made, or an agent kind that the settings no
    longer have: that must not keep everybody else from being routed."""
    return Route(str(public_id), check_slug(slug), port, agent_kind(kind).public_paths)


def sync() -> SyncResult:
    """Bring the router to the desired routes. DependencyDown ``route_pending`` when it does not answer."""
    try:
        return router().sync(desired)
    except DependencyDown as error:
        raise DependencyDown(error.message, type=Reason.WAITING_FOR_ROUTER) from error


def withdraw() -> None:
    """Bring the router to the desired routes, of which one has just been taken back and the row says so. A router of
    our own that does not run has none left to take back, and begins with the rows'."""
    try:
        sync()
    except DependencyDown:
        if not router().is_gone():
            raise


def differences() -> SyncResult:
    """What ``sync`` would change."""
    return router().differences(desired())
