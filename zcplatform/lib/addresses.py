"""Which addresses lead to the Internet: the one list, for what the platform calls and for what agents may connect to.

The standard library's ``is_private`` and ``is_global`` let too much pass (100.64.0.0/10, multicast, 64:ff9b::/96,
2002::/16), so what is refused stands here as IANA's registries of special purposes name it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Whoever asks: no address at all, metadata services, groups, IPv4 in disguise.
NEVER = (
    *_networks("0.0.0.0/8", "169.254.169.254/32", "224.0.0.0/4", "255.255.255.255/32"),
    *_networks("::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    *_networks("fd00:ec2::254/128", "ff00::/8"),
)
# Real networks that are nobody's on the Internet. Of IPv6, all that lies outside of GLOBAL_IPV6 besides.
PRIVATE = (
    *_networks("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *_networks("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4"),
    *_networks("2001::/23", "2001:db8::/32", "3fff::/20"),
)
# IPv4's networks for documentation lead nowhere: a test can stand there in the Internet's place.
DOCUMENTATION = _networks("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
GLOBAL_IPV6 = ip_network("2000::/3")
NOT_PUBLIC_IPV4 = tuple(
    collapse_addresses(network for network in (*NEVER, *PRIVATE) if isinstance(network, IPv4Network))
)
"""The same as ``is_public`` for a firewall: the networks of IPv4 that are not, none within another."""


def parse(text: str) -> Address | None:
    """An address as the resolver or the kernel spells it; None for anything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_plain_address(text: str) -> bool:
    """Whether ``text`` is an address that means the same in every program: without a zone."""
    return parse(text) is not None and "%" not in text


def is_public(text: str) -> bool:
    """Whether ``text`` is an address of the Internet, those for documentation among them; False for what is none."""
    address = parse(text)
    if address is None or (isinstance(address, IPv6Address) and (address.scope_id or address not in GLOBAL_IPV6)):
        return False
    return not within(address, NEVER) and not within(address, PRIVATE)


def is_here(text: str) -> bool:
    """Whether this host has the address ``text``: only then can a socket be bound to it. Sends nothing."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError:
            return False
    return True


def reachable(listen: str) -> str:
    """The address at which this host reaches what listens on ``listen``, which may be every interface."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.strip("[]"), listen.strip("[]"))  # noqa: S104


def authority(host: str, port: int) -> str:
    """``host:port``, with brackets around an address of IPv6."""
    return f"[{host}]:{port:d}" if ":" in host else f"{host}:{port:d}"


def within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
