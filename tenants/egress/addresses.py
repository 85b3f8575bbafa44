"""Which addresses are public: one list for the firewall's rules and for the proxy's guard."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# IANA's special-purpose registry, without the three documentation networks: those lead nowhere on the Internet, and a
# test can stand there.
NOT_PUBLIC = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Of global unicast, what carries an IPv4 address inside or leads nowhere. Everything outside it is not public.
_GLOBAL6 = IPv6Network("2000::/3")
_NOT_PUBLIC6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))


def is_public(text: str) -> bool:
    """Whether ``text`` is the address of something on the Internet; False for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC)
    return _is_public6(address)


def _is_public6(address: IPv6Address) -> bool:
    return address.scope_id is None and address in _GLOBAL6 and not any(address in network for network in _NOT_PUBLIC6)


def is_own(text: str) -> bool:
    """Whether ``text`` is an address of this host: only then can a socket be bound to it. Sends nothing."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError:
            return False
    return True
