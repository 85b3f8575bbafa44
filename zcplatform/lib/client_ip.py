"""The caller's address, as far as it can be believed."""

from __future__ import annotations

import ipaddress


def client_ip(peer: str, forwarded_for: str, *, behind_proxy: bool) -> str:
    """The address of the caller, or an empty string.

    ``peer`` is who is connected to us, empty on a unix socket; ``forwarded_for`` is the header's text. Only a proxy
    on this machine is believed, and of what it says only the last entry, which is the one it added itself:
    everything before that the caller may have written. Other headers of the kind are never read.
    """
    if behind_proxy and (not peer or _is_loopback(peer)):
        peer = forwarded_for.rpartition(",")[2].strip() or peer
    try:
        return str(ipaddress.ip_address(peer))
    except ValueError:
        return ""


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
