"""Which mode holds for a tenant, and what its agent may reach through the proxy. Reads rows only."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from tenants.egress.bridges import GATEWAY_HOST
from tenants.egress.hosts import Target, parse
from tenants.models import Tenant
from tenants.providers import address_of
from tenants.states import Egress
from zcplatform.lib.errors import InvalidField

_STRICTNESS = {mode: number for number, mode in enumerate(Egress)}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Policy:
    """What the proxy lets through for one tenant."""

    tenant: str
    slug: str
    targets: tuple[Target, ...]

    def allows(self, host: str, port: int) -> bool:
        """Whether a name as the agent spelt it may be connected to; where it leads is looked at separately."""
        return any(target.covers(host, port) for target in self.targets)


def default_of(plan: str) -> Egress:
    """The mode of a plan's tenants that have none of their own: ``EGRESS_DEFAULT``."""
    return Egress(settings.EGRESS_DEFAULT.get(plan, settings.EGRESS_DEFAULT[""]))


def mode_of(tenant: Tenant) -> Egress:
    """The tenant's own mode, or its plan's default."""
    return Egress(tenant.config.egress) if tenant.config.egress else default_of(tenant.plan.slug)


def is_looser(mode: str, than: str) -> bool:
    return _STRICTNESS[Egress(mode)] < _STRICTNESS[Egress(than)]


def policy_of(tenant: Tenant) -> Policy:
    """What its mode lets through the proxy: its own model always, and its listed hosts in the mode ``allowlist``."""
    listed = tenant.config.egress_hosts if mode_of(tenant) == Egress.ALLOWLIST else []
    targets = [parse(entry) for entry in listed]
    if model := _target_of(address_of(tenant.config)):
        targets.append(model)
    return Policy(str(tenant.public_id), tenant.slug, tuple(targets))


def opens(tenant: Tenant, columns: Mapping[str, Any]) -> bool:
    """Whether a change of these columns of its configuration gives the agent a place that its mode keeps it from: an
    address of its own choice for its model. A provider's own address is the platform's word."""
    if mode_of(tenant) == Egress.OPEN:
        return False
    after = copy(tenant.config)
    for name, value in columns.items():
        setattr(after, name, value)
    model = _target_of(after.base_url) if address_of(after) == after.base_url else None
    return model is not None and not policy_of(tenant).allows(model.host, model.port)


def at(mode: Egress, slot: int) -> Policy | None:
    """Whose address that is: the tenant on a Docker node with this slot, when its mode is the network's. None when
    nobody has the slot, or when two nodes gave it away, so that it can't be told whose it is."""
    rows = Tenant.objects.alive().filter(node__runtime="docker", slot=slot).select_related("config", "plan")
    found = list(rows[:2])
    return policy_of(found[0]) if len(found) == 1 and mode_of(found[0]) == mode else None


def proxy_url(mode: str) -> str:
    """Where a container finds the proxy; empty in the mode ``open``."""
    return "" if mode == Egress.OPEN else f"http://{GATEWAY_HOST}:{settings.EGRESS_PROXY_PORT}"


def proxy_environment(mode: str) -> Mapping[str, str]:
    """What an agent behind the proxy finds in its environment; nothing in the mode ``open``."""
    url = proxy_url(mode)
    if not url:
        return {}
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    # Node.js looks at them only when told to.
    return {**dict.fromkeys(names, url), "NO_PROXY": "localhost,127.0.0.1", "NODE_USE_ENV_PROXY": "1"}


def _target_of(url: str) -> Target | None:
    """A model's address as a target. It was checked when it was stored; where it may lead is the guard's to say."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    return Target(host, parts.port or _PORTS[parts.scheme]) if host and parts.scheme in _PORTS else None


def check(mode: str | None) -> None:
    """InvalidField for what is no mode; empty means the plan's default."""
    if mode and mode not in Egress.values:
        raise InvalidField(f"One of {', '.join(Egress.values)} is expected.", field="egress")
