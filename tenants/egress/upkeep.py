"""Keeping the firewall as it should be, and telling where it can't be."""

from __future__ import annotations

from django.conf import settings

from tenants.egress import firewall
from tenants.egress.policy import mode_of
from tenants.models import Node, Tenant
from tenants.states import Egress


def docker_nodes() -> list[Node]:
    return list(Node.objects.filter(runtime="docker").exclude(state=Node.State.DISABLED).order_by("name"))


def host_of(node: Node) -> str:
    """The address of the node's engine."""
    return node.endpoint or str(settings.DOCKER_HOST)


def keep_firewall() -> None:
    """Set the rules again where they can be set: somebody may have flushed them, or the engine set up its own chains
    before ours. Part of every sweep; a failure is logged there."""
    if any(not firewall.unenforceable(host_of(node)) for node in docker_nodes()):
        firewall.apply()


def guards_networks() -> bool:
    """Whether there are networks here that lead nowhere but to our proxy."""
    return any(not firewall.unenforceable(host_of(node)) for node in docker_nodes())


def unfenced() -> list[Tenant]:
    """Tenants that have an agent and a narrower mode than ``open``, on a node where nothing enforces it."""
    rows = Tenant.objects.alive().filter(slot__isnull=False).select_related("node", "plan", "config")
    return [t for t in rows if mode_of(t) != Egress.OPEN and not _is_fenced(t.node)]


def _is_fenced(node: Node) -> bool:
    return node.runtime == "docker" and not firewall.unenforceable(host_of(node))
