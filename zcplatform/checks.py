"""System checks: settings that are well-formed each for itself and yet wrong together, or on this machine."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from tenants.runtimes.agent_user import agent_user
from zcplatform import keys
from zcplatform.lib import outside
from zcplatform.lib.addresses import is_plain_address
from zcplatform.lib.errors import InvalidField

TAG = "zcplatform"
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
LEAST_TOKEN = 20
FIRST_TENANT_UID = 10_000  # below live the accounts of the system and its people


def _error(number: int, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"zcplatform.E{number:03}")


def _warning(number: int, text: str, hint: str) -> Warning:
    return Warning(text, hint=hint, id=f"zcplatform.W{number:03}")


def _is_local(host: str) -> bool:
    return host in _LOCAL or host.endswith(".localhost")


@register(TAG)
def check_all(**_options: Any) -> Iterable[CheckMessage]:
    """Every check of this file."""
    looks = (
        _keys,
        _home,
        _files,
        _debug,
        _address,
        _bind,
        _domain,
        _runtime,
        _ports,
        _uids,
        _networks,
        _containers,
        _internal,
        _watch,
    )
    return [message for look in (*looks, _zone) for message in look()]


def _zone() -> Iterator[CheckMessage]:
    zone = settings.TOML.server.time_zone
    if zone != "UTC":
        text = f"server.time_zone is {zone}, and no longer used: times and crons are in UTC."
        yield _warning(20, text, "Take it out of platform.toml, and look at BACKUP_CRON and DRILL_CRON.")


def _keys() -> Iterator[CheckMessage]:
    try:
        values = {name: keys.read(name, settings.KEYS_DIR) for name in keys.NAMES}
    except ImproperlyConfigured as error:
        yield _error(2, str(error), "Put the key files in order; bootstrap never replaces one that is there.")
        return
    missing = [name for name, value in values.items() if not value] + ([] if settings.INSTANCE else ["INSTANCE"])
    if missing:
        yield _error(1, f"Not there yet: {', '.join(missing)}.", "Run: zcplatform bootstrap")
    present = [value for value in values.values() if value]
    if len(set(present)) < len(present):
        yield _error(3, "Two keys have the same value.", "Give each its own: they are replaced one by one.")


def _home() -> Iterator[CheckMessage]:
    home = Path(settings.HOME)
    if not home.exists():
        return  # the keys are missing too, and that message says what to do
    if home.stat().st_mode & 0o022:
        yield _error(4, f"{home} can be written by others.", f"Run: chmod 700 {home}")
    if not os.access(home, os.W_OK | os.X_OK):
        yield _error(5, f"{home} can't be written.", "Give it to the user that runs the platform.")


def _files() -> Iterator[CheckMessage]:
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        path = Path(database["NAME"])
        if path.is_file() and path.stat().st_mode & 0o007 and path.parent.stat().st_mode & 0o001:
            yield _error(6, f"{path} is open to every user of this machine.", f"Run: chmod 600 {path}")
    config = Path(settings.CONFIG_FILE)
    if settings.TOML.smtp.password and config.stat().st_mode & 0o007:
        yield _warning(7, f"{config} holds a password and is open to every user.", f"Run: chmod 600 {config}")


def _debug() -> Iterator[CheckMessage]:
    if not settings.DEBUG:
        return
    if settings.IS_HTTPS or settings.BIND not in _LOCAL:
        yield _error(8, "DEBUG is on where others can reach the platform.", "Unset ZCPLATFORM_DEBUG.")


def _address() -> Iterator[CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        yield _error(9, "ALLOWED_HOSTS accepts every host name.", "Name the hosts in ZCPLATFORM_ALLOWED_HOSTS.")
    if not settings.IS_HTTPS and not _is_local(settings.PUBLIC_HOST):
        hint = "Put the platform behind https and set ZCPLATFORM_PUBLIC_BASE_URL to it."
        yield _warning(10, "Sessions travel over the network unencrypted.", hint)


def _bind() -> Iterator[CheckMessage]:
    bind = settings.BIND
    if bind and not is_plain_address(bind) and not _HOST.fullmatch(bind):
        hint = "An address of this host without a zone (no %), or empty for every interface."
        yield _error(28, f"ZCPLATFORM_BIND={bind!r} is nothing that the router could be sent to.", hint)


def _domain() -> Iterator[CheckMessage]:
    if len(settings.DOMAIN) > 200 or not _HOST.fullmatch(settings.DOMAIN):
        yield _error(11, f"ZCPLATFORM_DOMAIN={settings.DOMAIN!r} is not a host name.", "Such as agents.example.com.")
    if settings.TENANT_URL and "{slug}" not in settings.TENANT_URL:
        yield _error(12, "ZCPLATFORM_TENANT_URL has no {slug} in it.", "Such as https://{slug}.agents.example.com.")


def _runtime() -> Iterator[CheckMessage]:
    if settings.RUNTIME not in settings.RUNTIMES:
        hint = f"One of {', '.join(settings.RUNTIMES)}."
        yield _error(13, f"ZCPLATFORM_RUNTIME={settings.RUNTIME!r} is not a runtime.", hint)
    if settings.RUNTIME == "process" and not (user := agent_user()).allowed and not user.closed:
        text = f"The process runtime can't give each agent a user of its own: {user.why}."
        hint = "Use the runtime docker, run as root, or accept it with ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS=1."
        yield _error(14, text, hint)


def _ports() -> Iterator[CheckMessage]:
    low, high = settings.PORT_RANGE
    if low < 1024 or high > 65_535:
        yield _error(15, f"The port range {low}-{high} is not within 1024-65535.", "Set ZCPLATFORM_PORT_RANGE.")
    caddy = settings.CADDY_LISTEN.rpartition(":")[2]
    own = {"ZCPLATFORM_PORT": settings.PORT}
    if settings.ROUTER == "caddy":
        if not caddy.isdecimal() or not 0 < int(caddy) < 65_536:
            yield _error(17, f"ZCPLATFORM_CADDY_LISTEN={settings.CADDY_LISTEN!r} has no port.", "Such as :8443.")
            return
        own["ZCPLATFORM_CADDY_LISTEN"] = int(caddy)
    for name, port in own.items():
        if low <= port <= high:
            yield _error(16, f"{name}'s port {port} lies in the range of the agents' ports.", "Move one of the two.")
    if len(set(own.values())) < len(own):
        yield _error(18, "The platform and Caddy have the same port.", "Move one of the two.")


def _uids() -> Iterator[CheckMessage]:
    low, high = settings.UID_RANGE
    if low < FIRST_TENANT_UID or high >= 2**31:
        hint = f"Set ZCPLATFORM_UID_RANGE within {FIRST_TENANT_UID} to 2147483647."
        yield _error(19, f"The uid range {low}-{high} holds ids of the system's own accounts, or too high ones.", hint)


def _networks() -> Iterator[CheckMessage]:
    hint = "Such as SUBNET_POOL 10.213.0.0/16 with SUBNET_PREFIX 22."
    try:
        pool = ipaddress.IPv4Network(settings.SUBNET_POOL)
    except ValueError:
        yield _error(20, f"ZCPLATFORM_SUBNET_POOL={settings.SUBNET_POOL!r} is not a network.", hint)
        return
    if not pool.is_private:
        yield _error(20, f"ZCPLATFORM_SUBNET_POOL={settings.SUBNET_POOL!r} is not private.", hint)
    if not pool.prefixlen <= settings.SUBNET_PREFIX <= 29:
        yield _error(21, f"ZCPLATFORM_SUBNET_PREFIX={settings.SUBNET_PREFIX} does not fit into {pool}.", hint)
    elif 2 ** (32 - settings.SUBNET_PREFIX) - 3 < settings.TENANTS_PER_NETWORK:
        text = f"A /{settings.SUBNET_PREFIX} has no {settings.TENANTS_PER_NETWORK} addresses for agents."
        yield _error(22, text, "Widen ZCPLATFORM_SUBNET_PREFIX or lower ZCPLATFORM_TENANTS_PER_NETWORK.")
    if settings.TENANTS_PER_NETWORK > 1_000:
        yield _error(23, "A Linux bridge takes 1,023 ports.", "Set ZCPLATFORM_TENANTS_PER_NETWORK to 1000 at most.")


def _containers() -> Iterator[CheckMessage]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", settings.CONTAINER_PREFIX):
        yield _error(24, f"ZCPLATFORM_CONTAINER_PREFIX={settings.CONTAINER_PREFIX!r}.", "a-z, 0-9 and hyphens.")
    if not re.fullmatch(r"[1-9][0-9]{0,5}[kmg]", settings.LOG_MAX_SIZE):
        yield _error(25, f"ZCPLATFORM_LOG_MAX_SIZE={settings.LOG_MAX_SIZE!r} is not a size.", "Such as 50m.")


def _internal() -> Iterator[CheckMessage]:
    for host, port in sorted(settings.EGRESS_INTERNAL):
        if why := outside.only_elsewhere(host):
            yield _error(29, f"ZCPLATFORM_EGRESS_INTERNAL lists {host}:{port}, which leads nowhere.", why)


def _watch() -> Iterator[CheckMessage]:
    """Those who watch the platform from outside."""
    if 0 < len(settings.METRICS_TOKEN) < LEAST_TOKEN:
        yield _error(26, "ZCPLATFORM_METRICS_TOKEN can be guessed.", f"Make one of {LEAST_TOKEN} characters or more.")
    if not settings.HEARTBEAT_URL:
        return
    try:
        outside.endpoint_of(settings.HEARTBEAT_URL)
    except InvalidField as error:
        yield _error(27, f"ZCPLATFORM_HEARTBEAT_URL: {error.message}", "It is called every minute, see docs/alerts.md.")
