"""The entries of an allow-list: ``api.example.com``, ``*.example.com``, each perhaps with a port (443 otherwise)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zcplatform.lib.addresses import is_public
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.outside import only_elsewhere

MAX_HOSTS = 100
DEFAULT_PORT = 443
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")


@dataclass(frozen=True)
class Target:
    """``host`` is a name in lower case, an IPv4 address, or ``*.`` and a name with at least two labels."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return self.host if self.port == DEFAULT_PORT else f"{self.host}:{self.port}"

    def covers(self, host: str, port: int) -> bool:
        """Whether a connection to ``host`` is meant; a wildcard stands for one label or more, never for none."""
        if port != self.port:
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) >= len(self.host)
        return host == self.host


def check_hosts(entries: Iterable[str], *, field: str = "hosts") -> list[str]:
    """The entries in their one spelling, without repetitions; InvalidField names what is wrong."""
    given = list(entries) if isinstance(entries, list | tuple) else None
    if given is None or not all(isinstance(entry, str) for entry in given):
        raise InvalidField("A list of host names is expected.", field=field)
    if len(given) > MAX_HOSTS:
        raise InvalidField(f"At most {MAX_HOSTS} hosts are allowed.", field=field)
    return list(dict.fromkeys(str(parse(entry, field=field)) for entry in given))


def parse(entry: str, *, field: str = "hosts") -> Target:
    """One entry; InvalidField for anything but a name, a wildcard below two labels, or a public IPv4 address."""
    shown = entry.encode("ascii", "replace").decode()[:80]
    host, colon, port = entry.strip().lower().partition(":")
    host = host.removesuffix(".")
    if colon and not (re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) <= 65_535):
        raise InvalidField(f"“{shown}”: the port must be from 1 to 65535.", field=field)
    if why := only_elsewhere(host):
        raise InvalidField(why, field=field)
    if _ADDRESS.fullmatch(host):
        if not is_public(host):
            raise InvalidField(f"“{shown}” is not a public address.", field=field)
    elif len(host) > 253 or not _NAME.fullmatch(host.removeprefix("*.")) or host.count(".") < 1 + host.startswith("*"):
        raise InvalidField(
            f"“{shown}” is not a host name such as api.example.com or *.example.com, perhaps with a port.", field=field
        )
    return Target(host, int(port) if colon else DEFAULT_PORT)
