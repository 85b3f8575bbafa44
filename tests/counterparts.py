"""What a test may need beside Python, and whether it is there.

``ZC_REQUIRE=docker,caddy`` turns the absence of those into failures; otherwise their tests are skipped and listed
by name. ``ZC_SLOW=1`` runs the slow ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CADDY_MIN = (2, 11)


def docker_missing() -> str:
    """Why the engine can't be used; empty when it answers a ping within 2 s."""
    import docker
    from django.conf import settings

    try:
        client = docker.DockerClient(base_url=settings.DOCKER_HOST, timeout=2)
        client.ping()
        client.close()
    except Exception as error:
        return f"no Docker Engine answers at {settings.DOCKER_HOST} ({type(error).__name__})"
    return ""


def caddy_missing() -> str:
    """Why Caddy can't be used; empty when the environment's own binary is new enough."""
    binary = Path(sys.executable).with_name("caddy")
    if not binary.exists():
        return "the extra “caddy” is not installed"
    answer = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=20, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", answer)
    if not found or (int(found[1]), int(found[2])) < CADDY_MIN:
        return f"Caddy {'.'.join(map(str, CADDY_MIN))} or newer is needed, found {answer.split()[:1]}"
    return ""


def promtool_missing() -> str:
    """Prometheus' own checker of metrics and rules."""
    return "" if shutil.which("promtool") else "promtool (Debian's package prometheus) is not installed"


def sqlite_missing() -> str:
    """The suite runs on the database that it is given; what is about SQLite's own file is left out elsewhere."""
    from django.db import connection

    return "" if connection.vendor == "sqlite" else f"the database is {connection.vendor}"


def postgres_missing() -> str:
    """Whether PostgreSQL's programs are here: ``tests/postgres.py`` makes a cluster of its own with them."""
    return "" if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else "PostgreSQL's server is not installed"


def redis_missing() -> str:
    """Debian's server, which ``tests/redis.py`` starts, and the library that speaks to it."""
    if not shutil.which("redis-server"):
        return "Redis' server (Debian's package redis-server) is not installed"
    return "" if find_spec("redis") else "the extra “redis” is not installed"


def chromium_missing() -> str:
    """Whether a browser is here: Debian's, driven by playwright, which brings none of its own."""
    return "" if shutil.which("chromium") else "chromium is not installed"


def slow_missing() -> str:
    return "" if os.environ.get("ZC_SLOW") == "1" else "runs with ZC_SLOW=1"


def agents_missing() -> str:
    """Which real agent is not there: an image on the engine, or nanobot for the process runtime."""
    import docker
    from django.conf import settings

    if reason := docker_missing():
        return reason
    client = docker.DockerClient(base_url=settings.DOCKER_HOST, timeout=10)
    there = {tag for image in client.images.list() for tag in image.tags}
    client.close()
    missing = [kind for kind in ("nanobot", "openclaw") if settings.AGENT_IMAGES[kind] not in there]
    if missing:
        return f"no image of {', '.join(missing)}: manage.py build_image --kind {missing[0]}"
    # The PATH that agents of the process runtime have.
    return "" if shutil.which("nanobot", path="/usr/local/bin:/usr/bin:/bin") else "nanobot is not in /usr/local/bin"


def root_missing() -> str:
    return "" if os.geteuid() == 0 else "needs to run as root"


PROBES: dict[str, Callable[[], str]] = {
    "docker": docker_missing,
    "caddy": caddy_missing,
    "promtool": promtool_missing,
    "postgres": postgres_missing,
    "redis": redis_missing,
    "chromium": chromium_missing,
    "slow": slow_missing,
    "sqlite": sqlite_missing,
    "root": root_missing,
    "agents": agents_missing,
}


@cache
def missing(name: str) -> str:
    """Why the counterpart ``name`` is absent; empty when it is there. Asked once per session."""
    return PROBES[name]()


def required(value: str) -> set[str]:
    """The names in ``ZC_REQUIRE``; ValueError for one that does not exist."""
    names = {word.strip() for word in value.split(",") if word.strip()}
    unknown = names - set(PROBES)
    if unknown:
        raise ValueError(f"ZC_REQUIRE: unknown {', '.join(sorted(unknown))}; known: {', '.join(sorted(PROBES))}")
    return names
