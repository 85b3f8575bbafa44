"""Whether an agent gets where the platform got: inside a container the same address is another place, and its network
may lead elsewhere."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from tenants.egress import policy, upkeep
from tenants.models import Node, Tenant
from tenants.states import Egress
from zcplatform.lib import http
from zcplatform.lib.addresses import is_here, is_public, parse
from zcplatform.lib.errors import InvalidField

_ITSELF = (
    "In its container the agent would find only itself there. Write the address that the model has in your network."
)
_LISTED = "the operator has listed host and port in EGRESS_INTERNAL"
_PORTS = {"http": 80, "https": 443}


def refuse_itself(node: Node, url: str) -> None:
    """InvalidField when ``url`` is the loopback and the node's agents have one of their own."""
    if node.runtime == "docker" and _is_loopback(urlsplit(url).hostname or ""):
        raise InvalidField(_ITSELF, field="base_url")


def why_not(tenant: Tenant, url: str) -> str:
    """Why the tenant's agent can't connect to ``url``, which the platform has just reached; empty when it can, or when
    nobody keeps it from it. Says the same as the firewall and the proxy do."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]
    if tenant.node.runtime != "docker":
        return ""
    if _is_loopback(host):
        return _ITSELF
    if upkeep.why_not(tenant.node):
        return ""
    mode = policy.mode_of(tenant)
    if mode != Egress.OPEN and (host, port) in settings.EGRESS_INTERNAL:
        return ""
    if any(is_public(found) and not is_here(found) for found in http.addresses_of(host, port)):
        return ""
    if mode == Egress.OPEN:
        return f"With the egress mode “open” it reaches no private network; with “gateway” it does where {_LISTED}."
    return f"Its proxy leads to a private network only where {_LISTED}."


def _is_loopback(host: str) -> bool:
    address = parse(host)
    if address is None:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    return address.is_loopback or address.is_unspecified
