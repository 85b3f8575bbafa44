"""Where things are called and where they are reached: host names, ports, the admin socket. Read from settings."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from django.conf import settings

from zcplatform.lib.addresses import is_plain_address, reachable
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.slugs import check_slug

MAX_SOCKET_PATH = 100
"""Bytes. The kernel's limit is 108 with the final zero; Caddy and its clients add a little of their own."""

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_LISTEN = re.compile(r"(?P<host>[A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
_SOCKET = re.compile(r"(?:unix:/(?=//)/|unix/(?=/))?(?P<path>/[^|]+)(?:\|[0-7]{3,4})?")


def check_host(name: str) -> str:
    """``name`` itself when it is a plain lower-case host name or address; Misconfigured otherwise."""
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise Misconfigured(f"{name!r} is not a host name.", type="invalid_host")
    return name


def tenant_host(slug: str) -> str:
    """``{slug}.{domain}``; InvalidField for what is no slug."""
    return f"{check_slug(slug)}.{check_host(settings.DOMAIN)}"


def platform_hosts() -> tuple[str, ...]:
    """The names under which the platform itself is called, sorted; an address in brackets is left out."""
    names = {settings.PUBLIC_HOST.lower(), settings.DOMAIN, f"api.{settings.DOMAIN}"}
    return tuple(sorted(check_host(name) for name in names if not name.startswith("[")))


def listen_address(listen: str) -> tuple[str, int]:
    """Host (empty: every interface) and port of ``settings.CADDY_LISTEN``; Misconfigured for anything else."""
    found = _LISTEN.fullmatch(listen)
    if not found or not 0 < int(found["port"]) < 65_536:
        raise Misconfigured(f"ZCPLATFORM_CADDY_LISTEN={listen!r}: expected host:port or :port.", type="invalid_listen")
    return found["host"], int(found["port"])


def web_host() -> str:
    """Where the router finds the platform's web on this host: an address or a name. Misconfigured for anything else."""
    host = reachable(settings.BIND)
    return host if is_plain_address(host) else check_host(host)


def admin_socket() -> Path:
    """Caddy's admin socket: the setting, or ``run/caddy.sock`` in the home, or a short path when that is too long.

    The admin API is never on TCP: agents of the process runtime share the loopback with it.
    """
    if settings.CADDY_ADMIN:
        return _given_socket(settings.CADDY_ADMIN)
    path = Path(settings.HOME) / "run" / "caddy.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        tag = hashlib.sha256(os.fsencode(settings.HOME)).hexdigest()[:12]
        path = _short_folder() / f"zcplatform-{os.geteuid()}-{tag}" / "caddy.sock"
    return _plain(path)


def _short_folder() -> Path:
    """For root not the folder where everybody may write: an agent could take the name there first, and keep it."""
    return Path("/run") if os.geteuid() == 0 else Path(tempfile.gettempdir())


def first_configuration() -> Path:
    """What a Caddy of our own is started with; its command line names it."""
    return Path(settings.HOME) / "caddy" / "bootstrap.json"


def _given_socket(value: str) -> Path:
    """``/path``, ``unix//path`` (Caddy's own form, with or without ``|mode``) or ``unix:///path``."""
    found = _SOCKET.fullmatch(value)
    if not found:
        raise Misconfigured(
            f"ZCPLATFORM_CADDY_ADMIN={value!r}: expected the path of a unix socket, never TCP.", type="invalid_admin"
        )
    return _plain(Path(found["path"]))


def _plain(path: Path) -> Path:
    """Refuse what Caddy would expand or read as something else in its listen address."""
    if any(char in str(path) for char in "{}|\n\0") or len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise Misconfigured(
            f"{path} can't be the admin socket: too long, or one of {{ }} | in it.", type="invalid_admin"
        )
    return path
