"""The tenants' networks: one bridge per so many slots, because a Linux bridge takes 1,023 ports and no more.

A network is for one mode of egress: the firewall's rules go by the name of the bridge. In the proxied modes a tenant's
address follows from its slot, because the proxy knows by it who asks.

Containers on one bridge can't reach each other (inter-container traffic is off) and bridges can't reach each other
(the engine's own rule). The subnets come from our pool: the engine's own run out at about thirty networks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any

from django.conf import settings

from tenants.egress.bridges import FIRST_HOST, bridge_name
from tenants.runtimes.base import LABEL_INSTANCE
from tenants.runtimes.docker_engine import CREATE_S, Engine, Refused
from tenants.states import Egress, Reason
from zcplatform.lib.errors import RunFailed

ATTEMPTS = 20
BRIDGE_NAME = "com.docker.network.bridge.name"
OPTIONS = {
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
}


@dataclass(frozen=True)
class NetworkPlace:
    """Where in the networks a tenant is. ``address`` is its own and ``gateway`` the bridge's; both are empty in the
    mode ``open``, where the engine chooses an address and nobody has to know it."""

    network: str
    address: str = ""
    gateway: str = ""


def network_name(slot: int, egress: str = Egress.OPEN) -> str:
    suffix = "" if egress == Egress.OPEN else f"-{egress}"
    return f"{settings.CONTAINER_PREFIX}-internal-{slot // settings.TENANTS_PER_NETWORK}{suffix}"


def place(engine: Engine, slot: int, egress: str) -> NetworkPlace:
    """The place of the slot's tenant; RunFailed ``network_failed`` when the network is not there."""
    name = network_name(slot, egress)
    if egress == Egress.OPEN:
        return NetworkPlace(name)
    config = next((n["IPAM"]["Config"] for n in engine.call("networks", names=[name]) if n["Name"] == name), None)
    if not config:
        raise RunFailed(f"There is no network {name}.", type=Reason.NETWORK_FAILED)
    subnet = IPv4Network(config[0]["Subnet"])
    return NetworkPlace(name, str(subnet[FIRST_HOST + slot % settings.TENANTS_PER_NETWORK]), str(subnet[1]))


def ensure_network(engine: Engine, slot: int, egress: str = Egress.OPEN) -> str:
    """The name of the slot's network, made when absent. RunFailed ``network_failed`` when a network that is not ours
    has the name, when its bridge has another name than the rules go by, or when the pool has no free subnet."""
    name = network_name(slot, egress)
    bridge = bridge_name(egress, slot // settings.TENANTS_PER_NETWORK)
    for _ in range(ATTEMPTS):
        if _only_ours(engine, name, bridge):
            return name
        try:
            _make(engine, name, bridge)
        except Refused as error:
            # Another installation, or another worker of ours, took the subnet or the name first: look again.
            if error.type != Reason.NETWORK_FAILED and not error.conflict:
                raise
            # All who were refused reach for the same next subnet: not all at the same moment.
            time.sleep(random.uniform(0.02, 0.3))  # noqa: S311
    raise RunFailed(f"No network {name} could be made.", type=Reason.NETWORK_FAILED)


def remove_unused_networks(engine: Engine) -> list[str]:
    """Remove this installation's networks that nothing uses; returns the names of those that are gone."""
    gone = []
    for network in ours(engine):
        try:
            engine.call("remove_network", network["Id"], limit_s=CREATE_S)
        except Refused as error:
            if not error.absent:
                continue  # a container is on it
        gone.append(network["Name"])
    return gone


def _only_ours(engine: Engine, name: str, bridge: str) -> bool:
    """True when ``name`` is there once and ours. The engine lets two networks have one name when they are made at
    the same moment: every worker then keeps the same one, the oldest."""
    same = [network for network in engine.call("networks", names=[name]) if network["Name"] == name]
    if any(network["Labels"].get(LABEL_INSTANCE) != settings.INSTANCE for network in same):
        raise RunFailed(f"A network {name} exists that is not ours.", type=Reason.NETWORK_FAILED)
    same.sort(key=lambda network: (network["Created"], network["Id"]))
    for twin in same[1:]:
        _remove(engine, twin["Id"])
    if same and (same[0].get("Options") or {}).get(BRIDGE_NAME) != bridge:
        text = f"The network {name} is of an earlier version: stop its tenants, then remove it from the engine."
        raise RunFailed(text, type=Reason.NETWORK_FAILED)
    return bool(same)


def _remove(engine: Engine, network_id: str) -> None:
    try:
        engine.call("remove_network", network_id, limit_s=CREATE_S)
    except Refused as error:
        if not error.absent:
            raise


def _make(engine: Engine, name: str, bridge: str) -> None:
    subnet = free_subnet(_in_use(engine.call("networks")))
    engine.call(
        "create_network",
        name,
        driver="bridge",
        options={**OPTIONS, BRIDGE_NAME: bridge},
        ipam={"Driver": "default", "Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]},
        check_duplicate=True,
        labels={LABEL_INSTANCE: settings.INSTANCE},
        limit_s=CREATE_S,
    )


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first piece of the pool that overlaps nothing in ``taken``; RunFailed ``network_failed`` when none does."""
    used = list(taken)
    for piece in IPv4Network(settings.SUBNET_POOL).subnets(new_prefix=settings.SUBNET_PREFIX):
        if not any(piece.overlaps(other) for other in used):
            return piece
    raise RunFailed(f"The subnets of {settings.SUBNET_POOL} are used up.", type=Reason.NETWORK_FAILED)


def _in_use(networks: Iterable[dict[str, Any]]) -> Iterator[IPv4Network]:
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = ip_network(config["Subnet"], strict=False) if config.get("Subnet") else None
            if isinstance(subnet, IPv4Network):
                yield subnet


def ours(engine: Engine) -> list[dict[str, Any]]:
    """Every network of this installation, as the engine describes it."""
    found: list[dict[str, Any]] = engine.call("networks", filters={"label": f"{LABEL_INSTANCE}={settings.INSTANCE}"})
    return found
