"""Which routes should exist, and bringing the router to them."""

from __future__ import annotations

import logging

from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.routing import router
from tenants.routing.base import Route, SyncResult
from tenants.states import Reason
from zcplatform.lib.errors import DependencyDown, InvalidField
from zcplatform.lib.slugs import check_slug

log = logging.getLogger(__name__)


def desired() -> list[Route]:
    """One route for every tenant that is to be reachable, from the database."""
    rows = Tenant.objects.routed().order_by("pk").values_list("public_id", "slug", "port", "agent_kind")
    return [
        Route(str(public_id), slug, port, agent_kind(kind).public_paths)
        for public_id, slug, port, kind in rows
        if _may_be_routed(slug, kind)
    ]


def _may_be_routed(slug: str, kind: str) -> bool:
    """A name that became reserved after the tenant was made, or an agent kind that the settings no longer have, must
    not keep everybody else from being routed."""
    try:
        check_slug(slug)
        agent_kind(kind)
    except InvalidField as error:
        log.error("tenant is not routed", extra={"slug": slug, "type": error.type})
        return False
    return True


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
