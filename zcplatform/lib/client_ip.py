"""The caller's address, as far as it can be believed."""

from __future__ import annotations

import ipaddress


def client_ip(peer: str, forwarded_for: str, *, behind_proxy: bool, own: str = "127.0.0.1") -> str:
    """The address of the caller, or an empty string.

    ``peer`` is who is connected to us, empty on a unix socket; ``forwarded_for`` is the header's text; ``own`` is the
    address that we listen on, from which whoever connects to it on this machine comes. Only a proxy
    on this machine is believed, and of what it says only the last entry, which is the one it added itself:
    everything before that the caller may have written. Other headers of the kind are never read.
    """
    if behind_proxy and (not peer or is_this_machine(peer, own)):
        peer = forwarded_for.rpartition(",")[2].strip() or peer
    try:
        return str(ipaddress.ip_address(peer))
    except ValueError:
        return ""


def is_this_machine(peer: str, own: str) -> bool:
    """Whether a connection from ``peer`` to the address ``own`` began on this machine."""
    try:
        return ipaddress.ip_address(peer).is_loopback or peer == own
    except ValueError:
        return False
