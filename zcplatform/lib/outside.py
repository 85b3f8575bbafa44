"""What outside the platform may be connected to: the rules, and nothing that connects.

The standard library's ``is_private`` and ``is_global`` let too much pass (100.64.0.0/10, multicast, 64:ff9b::/96,
2002::/16), so what is refused stands here as lists.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from django.conf import settings

from zcplatform.lib.errors import InvalidField

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 2_000
REFUSED = "endpoint_refused"
# Printable ASCII less what another parser could read differently.
_URL = re.compile(r"""[^\x00-\x20\x7f-\U0010ffff"'<>\\^`{|}]+""")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Never, whatever the operator allows: no address at all, metadata services, groups, IPv4 in disguise.
NEVER = (
    *_networks("0.0.0.0/8", "169.254.169.254/32", "224.0.0.0/4", "255.255.255.255/32"),
    *_networks("::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    *_networks("fd00:ec2::254/128", "ff00::/8"),
)
# Only where the operator lists the network in ENDPOINT_NETWORKS.
PRIVATE = (
    *_networks("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *_networks("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
    *_networks("203.0.113.0/24", "240.0.0.0/4", "2001:db8::/32"),
)
PUBLIC_IPV6 = ip_network("2000::/3")


@dataclass(frozen=True)
class Endpoint:
    """A web address taken apart. ``host`` is lower case and without brackets, ``target`` path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def endpoint_of(url: str, *, field: str = "url") -> Endpoint:
    """Take ``url`` apart. InvalidField ``endpoint_refused`` unless it is https (or http where ``ALLOW_HTTP_ENDPOINTS``
    permits it), without user name and fragment, of printable ASCII, and not one of the platform's own names."""
    schemes = ("https", "http") if settings.ALLOW_HTTP_ENDPOINTS else ("https",)
    try:
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise refused("This is not a web address.", field) from None
    if not _URL.fullmatch(url) or len(url) > MAX_URL or not parts.hostname or port == 0:
        raise refused("This is not a web address.", field)
    if parts.scheme not in schemes:
        raise refused(f"The address must begin with {' or '.join(s + '://' for s in schemes)}.", field)
    if "@" in parts.netloc or "#" in url:
        raise refused("An address without user name and fragment is expected.", field)
    host = parts.hostname.rstrip(".")
    if is_own_name(host):
        raise refused("This address is the platform's own.", field)
    return Endpoint(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def is_own_name(host: str) -> bool:
    """Whether ``host`` is the platform's name or a tenant's. Addresses are judged when something connects."""
    own = {settings.DOMAIN, settings.PUBLIC_HOST.strip("[]")}
    return not _is_address(host) and any(host == name or host.endswith(f".{name}") for name in own if name)


def permitted(text: str, port: int) -> bool:
    """Whether an address, as the resolver or the kernel spells it, may be connected to."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if _within(address, NEVER):
        return False
    listed = _within(address, settings.ENDPOINT_NETWORKS)
    public = address in PUBLIC_IPV6 if address.version == 6 else True
    if not listed and (not public or _within(address, PRIVATE)):
        return False
    return not _is_here(address) or (listed and not _is_ours(port))


def refused(message: str, field: str = "url") -> InvalidField:
    """The one error for an address that is not connected to."""
    return InvalidField(message, type=REFUSED, field=field)


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_here(address: Address) -> bool:
    """Whether this host has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _is_ours(port: int) -> bool:
    """Whether the platform or one of its agents would listen there."""
    return port == settings.PORT or settings.PORT_RANGE[0] <= port <= settings.PORT_RANGE[1]
