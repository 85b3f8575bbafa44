"""``platform.toml`` as frozen dataclasses. Unknown keys and wrong types stop the start, naming the key."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Server:
    """Where the platform itself listens and how it is called from outside."""

    domain: str = "localhost"
    bind: str = "127.0.0.1"
    port: int = 8080
    public_base_url: str = ""
    time_zone: str = "UTC"  # of earlier versions: read, and no longer used


@dataclass(frozen=True)
class Docker:
    """The engine and what the containers get from it."""

    socket: str = "unix:///var/run/docker.sock"
    container_prefix: str = "zcplatform"
    subnet_pool: str = "10.213.0.0/16"
    subnet_prefix: int = 22
    tenants_per_network: int = 500
    log_max_size: str = "50m"
    log_max_files: int = 3


@dataclass(frozen=True)
class Proxy:
    """The router: ``direct`` or ``caddy``. An empty ``admin`` means that ``serve`` starts Caddy itself."""

    router: str = "direct"
    admin: str = ""
    listen: str = ":8443"
    https: bool = False


@dataclass(frozen=True)
class Smtp:
    """Outgoing mail; without a host, codes and links go to the console log (development only)."""

    host: str = ""
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    starttls: bool = True
    sender: str = "zcplatform@localhost"


@dataclass(frozen=True)
class PlanLimits:
    """One ``[plans.<slug>]``. Memory and disk in MB, CPU in cores, tokens per calendar month."""

    name: str
    max_channels: int
    max_members: int
    max_messages_per_day: int
    max_tokens_per_month: int
    cpu_limit: float
    memory_limit_mb: int
    pids_limit: int
    disk_limit_mb: int


DEFAULT_PLANS = {
    "free": PlanLimits("Free", 2, 3, 500, 1_000_000, 0.25, 256, 64, 1_024),
    "pro": PlanLimits("Pro", 10, 20, 10_000, 10_000_000, 1.0, 1_024, 128, 10_240),
    "enterprise": PlanLimits("Enterprise", 50, 100, 100_000, 100_000_000, 4.0, 4_096, 256, 51_200),
}


@dataclass(frozen=True)
class PlatformToml:
    server: Server = field(default_factory=Server)
    docker: Docker = field(default_factory=Docker)
    proxy: Proxy = field(default_factory=Proxy)
    smtp: Smtp = field(default_factory=Smtp)
    plans: dict[str, PlanLimits] = field(default_factory=lambda: dict(DEFAULT_PLANS))


def load(path: Path) -> PlatformToml:
    """Read the file; an absent one means the defaults."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PlatformToml()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImproperlyConfigured(f"{path}: {error}") from error
    sections: dict[str, Any] = {"server": Server, "docker": Docker, "proxy": Proxy, "smtp": Smtp}
    unknown = set(document) - set(sections) - {"plans"}
    if unknown:
        raise ImproperlyConfigured(f"{path}: unknown section [{sorted(unknown)[0]}].")
    built = {name: _section(path, name, kind, document.get(name, {})) for name, kind in sections.items()}
    if not isinstance(document.get("plans", {}), dict):
        raise ImproperlyConfigured(f"{path}: [plans] must hold tables.")
    plans = {slug: _plan(path, slug, values) for slug, values in document.get("plans", {}).items()}
    return PlatformToml(**built, plans={**DEFAULT_PLANS, **plans})


def _plan(path: Path, slug: str, values: dict[str, Any]) -> PlanLimits:
    """An override of a default plan, or a plan of its own with every limit given."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,38}", slug):
        raise ImproperlyConfigured(f"{path}: [plans.{slug!r}] is not a slug: a-z, 0-9 and hyphens.")
    if not isinstance(values, dict):
        raise ImproperlyConfigured(f"{path}: [plans.{slug}] must be a table.")
    base = DEFAULT_PLANS.get(slug)
    start = {f.name: getattr(base, f.name) for f in fields(PlanLimits)} if base else {"name": slug.capitalize()}
    return _section(path, f"plans.{slug}", PlanLimits, {**start, **values})


def _section(path: Path, name: str, kind: type, values: Any) -> Any:
    if not isinstance(values, dict):
        raise ImproperlyConfigured(f"{path}: [{name}] must be a table.")
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise ImproperlyConfigured(f"{path}: unknown key {name}.{key}.")
        wanted: Any = {"str": str, "int": int, "bool": bool, "float": (int, float)}[str(known[key].type)]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ImproperlyConfigured(f"{path}: {name}.{key} must be {known[key].type}, not {value!r}.")
        if kind is PlanLimits and not isinstance(value, str) and not 0 < value < math.inf:
            raise ImproperlyConfigured(f"{path}: {name}.{key} must be greater than zero.")
    missing = [key for key, f in known.items() if key not in values and f.default is f.default_factory is MISSING]
    if missing:
        raise ImproperlyConfigured(f"{path}: [{name}] lacks {', '.join(missing)}.")
    return kind(**values)
