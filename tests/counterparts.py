"""What a test may need beside Python, and whether it is there.

``ZC_REQUIRE=docker,caddy`` turns the absence of those into failures; otherwise their tests are skipped and listed
by name. ``ZC_SLOW=1`` runs the slow ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

RESERVED = {"redis", "chromium", "agents"}  # names that later parts of the suite will use
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


def sqlite_missing() -> str:
    """The suite runs on the database that it is given; what is about SQLite's own file is left out elsewhere."""
    from django.db import connection

    return "" if connection.vendor == "sqlite" else f"the database is {connection.vendor}"


def postgres_missing() -> str:
    """Whether PostgreSQL's programs are here: ``.ci/postgres`` makes a cluster of its own with them."""
    return "" if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else "PostgreSQL's server is not installed"


def slow_missing() -> str:
    return "" if os.environ.get("ZC_SLOW") == "1" else "runs with ZC_SLOW=1"


def root_missing() -> str:
    return "" if os.geteuid() == 0 else "needs to run as root"


PROBES: dict[str, Callable[[], str]] = {
    "docker": docker_missing,
    "caddy": caddy_missing,
    "postgres": postgres_missing,
    "slow": slow_missing,
    "sqlite": sqlite_missing,
    "root": root_missing,
}


@cache
def missing(name: str) -> str:
    """Why the counterpart ``name`` is absent; empty when it is there. Asked once per session."""
    return PROBES[name]()


def required(value: str) -> set[str]:
    """The names in ``ZC_REQUIRE``; ValueError for one that does not exist."""
    names = {word.strip() for word in value.split(",") if word.strip()}
    unknown = names - set(PROBES) - RESERVED
    if unknown:
        raise ValueError(f"ZC_REQUIRE: unknown {', '.join(sorted(unknown))}; known: {', '.join(sorted(PROBES))}")
    return names
