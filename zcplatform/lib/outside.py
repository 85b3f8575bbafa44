"""What outside the platform may be connected to: the rules, and nothing that connects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from zcplatform.lib.addresses import DOCUMENTATION, NEVER, is_here, is_public, parse, within
from zcplatform.lib.errors import InvalidField

MAX_URL = 2_000
REFUSED = "endpoint_refused"
# Printable ASCII less what another parser could read differently.
_URL = re.compile(r"""[^\x00-\x20\x7f-\U0010ffff"'<>\\^`{|}]+""")


# Names that an engine or a virtual machine makes up for its own host, on somebody's desktop.
_DESKTOP = (".docker.internal", ".containers.internal", ".lima.internal", ".minikube.internal", ".k3d.internal",
            ".orb.internal", "docker.for.mac.localhost", "docker.for.win.localhost")  # fmt: skip
_WRITE_INSTEAD = "Write the name or the address that it has in your network."


def only_elsewhere(host: str) -> str:
    """Why ``host`` can't be meant here, and what to write instead; empty for every other name or address."""
    if "%" in host:
        return f"An address with a zone (%…) means something on one machine only. {_WRITE_INSTEAD}"
    if f".{host.lower().rstrip('.')}".endswith(_DESKTOP):
        return f"“{host}” exists only inside a container on somebody's desktop. {_WRITE_INSTEAD}"
    return ""


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
    if why := only_elsewhere(host):
        raise refused(why, field)
    if is_own_name(host):
        raise refused("This address is the platform's own.", field)
    return Endpoint(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def is_own_name(host: str) -> bool:
    """Whether ``host`` is the platform's name or a tenant's. Addresses are judged when something connects."""
    own = {settings.DOMAIN, settings.PUBLIC_HOST.strip("[]")}
    return parse(host) is None and any(host == name or host.endswith(f".{name}") for name in own if name)


def permitted(text: str, port: int) -> bool:
    """Whether an address, as the resolver or the kernel spells it, may be connected to: a public one, or one of a
    network that the operator lists in ENDPOINT_NETWORKS."""
    address = parse(text)
    if address is None or within(address, NEVER):
        return False
    listed = within(address, settings.ENDPOINT_NETWORKS)
    if not listed and (not is_public(text) or within(address, DOCUMENTATION)):
        return False
    return not is_here(text) or (listed and not _is_ours(port))


def refused(message: str, field: str = "url") -> InvalidField:
    """The one error for an address that is not connected to."""
    return InvalidField(message, type=REFUSED, field=field)


def _is_ours(port: int) -> bool:
    """Whether the platform or one of its agents would listen there."""
    return port == settings.PORT or settings.PORT_RANGE[0] <= port <= settings.PORT_RANGE[1]
