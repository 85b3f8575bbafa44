"""Typed settings from the environment. A bad value stops the start, naming the variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured

PREFIX = "ZCPLATFORM_"
T = TypeVar("T")


def raw(name: str) -> str | None:
    """``ZCPLATFORM_<NAME>``, or the content of the file that ``ZCPLATFORM_<NAME>_FILE`` points to; without the white
    space around it, which comes along when a key is pasted."""
    direct, path = os.environ.get(PREFIX + name), os.environ.get(f"{PREFIX}{name}_FILE")
    if direct is not None and path is not None:
        raise ImproperlyConfigured(f"Set {PREFIX}{name} or {PREFIX}{name}_FILE, not both.")
    if path is None:
        return None if direct is None else direct.strip()
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{PREFIX}{name}_FILE={path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{PREFIX}{name}_FILE={path}: not a text file.") from error


def _typed(name: str, default: T, parse: Callable[[str], T], wanted: str) -> T:
    value = raw(name)
    if value is None:
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{PREFIX}{name}={value!r}: expected {wanted}.") from error


def text(name: str, default: str = "") -> str:
    value = raw(name)
    return default if value is None else value


def integer(name: str, default: int, *, low: int = 1, high: int = 2**31 - 1) -> int:
    """A whole number with both limits allowed; a default from ``platform.toml`` is held to the same limits."""
    value = _typed(name, default, int, "a whole number")
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{PREFIX}{name}={value}: expected {low} to {high}.")
    return value


def flag(name: str, default: bool) -> bool:
    def parse(value: str) -> bool:
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(value)

    return _typed(name, default, parse, "1 or 0")


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of ``allowed``, in lower case; a default from ``platform.toml`` is held to the same."""
    value = text(name, default).lower()
    if value not in allowed:
        raise ImproperlyConfigured(f"{PREFIX}{name}={value!r}: expected one of {', '.join(allowed)}.")
    return value


def words(name: str, default: list[str]) -> list[str]:
    value = raw(name)
    return default if value is None else [part.strip() for part in value.split(",") if part.strip()]


def by_plan(name: str, default: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """``open,free=gateway``: a value for every plan, under the key "", and for the plans that differ."""
    found = {"": default}
    for word in words(name, []):
        plan, _, value = word.rpartition("=")
        if value not in allowed:
            wanted = ", ".join(allowed)
            raise ImproperlyConfigured(f"{PREFIX}{name}={word!r}: expected one of {wanted}, or plan=value.")
        found[plan.strip()] = value
    return found


def host_ports(name: str) -> frozenset[tuple[str, int]]:
    """``model.lan:11434,other.lan:80`` as pairs, hosts in lower case."""
    found = set()
    for word in words(name, []):
        host, _, port = word.lower().rpartition(":")
        if not (host and re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) < 65_536):
            raise ImproperlyConfigured(f"{PREFIX}{name}={word!r}: expected host:port.")
        found.add((host, int(port)))
    return frozenset(found)


def int_range(name: str, default: tuple[int, int]) -> tuple[int, int]:
    """``10001-12000``: both ends belong to the range."""

    def parse(value: str) -> tuple[int, int]:
        first, _, last = value.partition("-")
        low, high = int(first), int(last)
        if not 0 < low <= high:
            raise ValueError(value)
        return low, high

    return _typed(name, default, parse, "a range like 10001-12000")


def networks(name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """``10.1.0.0/16,fd00:1::/32``; none when it is not set."""

    def parse(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())

    return _typed(name, (), parse, "networks like 10.1.0.0/16")


def redis_url(name: str) -> str:
    """``redis://:password@host:6379/0``, ``rediss://`` for TLS, or ``unix:///path``. No error tells the value."""
    value = text(name)
    if not value:
        return ""
    try:
        sound = _is_redis(urlsplit(value))
    except ValueError:  # its text may hold the password
        sound = False
    if not sound:
        wanted = "redis://:PASSWORD@HOST:PORT/0, rediss:// for TLS, or unix:///path/of/the.sock"
        raise ImproperlyConfigured(f"{PREFIX}{name}: expected {wanted}, special characters of the password as %XX.")
    if find_spec("redis") is None:
        raise ImproperlyConfigured(f"{PREFIX}{name}: the library is not installed; it comes with the extra “redis”.")
    return value


def _is_redis(url: SplitResult) -> bool:
    """What redis-py would pass over in silence is refused here: a wrong number, options of its own, a fragment."""
    if url.query or url.fragment:
        return False
    if url.scheme == "unix":
        return not url.hostname and len(url.path) > 1
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        return False
    return url.port != 0 and re.fullmatch(r"/?|/[0-9]{1,3}", url.path) is not None


def path(name: str, default: Path) -> Path:
    value = raw(name)
    return default if not value else Path(value).expanduser().absolute()
