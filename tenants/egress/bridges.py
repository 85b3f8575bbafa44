"""The bridges of the tenants' networks: their names say installation, mode and number, so that rules can go by them.

An interface's name has 15 characters at most: ``zc``, 7 of a digest of the installation's id, one letter for the mode,
and the network's number.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from django.conf import settings

from tenants.states import Egress

LETTERS = {Egress.OPEN: "o", Egress.GATEWAY: "g", Egress.ALLOWLIST: "a"}
GATEWAY_HOST = "gateway.internal"
"""The name by which an agent finds its network's gateway address, and the proxy there."""
FIRST_HOST = 2  # after the network's own address and the bridge's
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B


@dataclass(frozen=True)
class Bridge:
    """One bridge as it stands on this host; ``interface`` is its address with the network's mask."""

    name: str
    mode: Egress
    number: int
    interface: IPv4Interface

    @property
    def address(self) -> str:
        return str(self.interface.ip)

    def slot_of(self, text: str) -> int | None:
        """The slot of the tenant that has the address ``text`` on this network; None for any other address."""
        offset = int(IPv4Address(text)) - int(self.interface.network.network_address) - FIRST_HOST
        if 0 <= offset < settings.TENANTS_PER_NETWORK and IPv4Address(text) in self.interface.network:
            return self.number * int(settings.TENANTS_PER_NETWORK) + offset
        return None


def mark(instance: str) -> str:
    """What all bridges of an installation begin with, and nobody else's."""
    return "zc" + hashlib.sha256(instance.encode()).hexdigest()[:7]


def bridge_name(mode: str, number: int) -> str:
    return f"{mark(settings.INSTANCE)}{LETTERS[Egress(mode)]}{number}"


def present() -> Iterator[Bridge]:
    """This installation's bridges that have an address now."""
    modes = {letter: mode for mode, letter in LETTERS.items()}
    pattern = re.compile(rf"{mark(settings.INSTANCE)}([{''.join(modes)}])(\d+)")
    for _, name in socket.if_nameindex():
        found = pattern.fullmatch(name)
        interface = _address(name) if found else None
        if found and interface:
            yield Bridge(name, modes[found[1]], int(found[2]), interface)


def _address(name: str) -> IPv4Interface | None:
    try:
        address, mask = (_ask(name, request) for request in (_SIOCGIFADDR, _SIOCGIFNETMASK))
    except OSError:
        return None  # gone meanwhile, or not addressed yet
    return IPv4Interface(f"{address}/{mask}")


def _ask(name: str, request: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker.fileno(), request, struct.pack("256s", name.encode()))
    return socket.inet_ntoa(answer[20:24])
