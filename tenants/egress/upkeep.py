"""Keeping the firewall as it should be, and telling where it can't be."""

from __future__ import annotations

from django.conf import settings

from tenants.egress import bridges, firewall
from tenants.egress.policy import mode_of
from tenants.models import Node, Tenant
from tenants.states import Egress


def why_not(node: Node) -> str:
    """Why nothing enforces what this node's agents connect to; empty when the firewall does."""
    if node.runtime != "docker":
        return firewall.SHARED_NETWORK
    return firewall.unenforceable(node.endpoint or str(settings.DOCKER_HOST))


def guards_networks() -> bool:
    """Whether there are networks here that the firewall has to fence, and that lead nowhere but to our proxy."""
    nodes = Node.objects.filter(runtime="docker").exclude(state=Node.State.DISABLED)
    return any(not why_not(node) for node in nodes)


def keep_firewall() -> None:
    """Set the rules again where they can be set: somebody may have flushed them, or the engine set up its own chains
    before ours. Part of every sweep; a failure is logged there. Without networks of ours there is nothing to fence:
    what ``teardown`` took away does not come back."""
    if guards_networks() and any(bridges.present()):
        firewall.apply()


def unfenced() -> list[Tenant]:
    """Tenants that have an agent and a narrower mode than ``open``, on a node where nothing enforces it."""
    rows = Tenant.objects.alive().filter(slot__isnull=False).select_related("node", "plan", "config")
    return [tenant for tenant in rows if mode_of(tenant) != Egress.OPEN and why_not(tenant.node)]
