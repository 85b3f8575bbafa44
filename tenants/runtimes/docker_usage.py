"""What containers use: from their control groups where these can be seen, else from the engine, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tenants.runtimes import cgroups
from tenants.runtimes.base import Reading
from tenants.runtimes.docker_engine import CREATE_S, Engine, Refused
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import DependencyDown

AT_ONCE = 100  # the engine takes about a second for each, whatever else it does


def measure(engine: Engine, containers: Sequence[str]) -> dict[str, Reading]:
    """By container id. DependencyDown when nothing can be seen from here and the engine does not answer either."""
    if engine.is_local:
        seen = {container: cgroups.read(container) for container in containers}
        if any(seen.values()):
            return {container: reading for container, reading in seen.items() if reading}
    return by_api(engine, containers)


def by_api(engine: Engine, containers: Sequence[str]) -> dict[str, Reading]:
    """The same by the engine's ``stats``; what does not run, or is not there, is left out."""
    if not containers:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(containers))) as pool:
        answers = pool.map(lambda container: _read(engine, container), containers)
        return {c: reading for c, reading in zip(containers, answers, strict=True) if reading}


def _read(engine: Engine, container: str) -> Reading | None:
    """None too for an answer that makes no sense: the others' do."""

    def read() -> Reading | None:
        raw = _ask(engine, container)
        return parse(raw) if raw else None

    return contained(read, None, what="container can't be measured", passing=(DependencyDown,), container=container)


def _ask(engine: Engine, container: str) -> Mapping[str, Any] | None:
    try:
        return engine.call("stats", container, stream=False, one_shot=True, limit_s=CREATE_S)
    except Refused as error:
        if error.absent:
            return None
        raise


def parse(raw: Mapping[str, Any]) -> Reading | None:
    """One answer of ``stats``; None for a container that does not run. The engine does not tell lives apart."""
    memory, cached = raw.get("memory_stats") or {}, (raw.get("memory_stats") or {}).get("stats") or {}
    if "usage" not in memory:
        return None
    cache = cached.get("total_inactive_file", cached.get("inactive_file", 0))
    networks = (raw.get("networks") or {}).values()
    limit = memory.get("limit")
    return Reading(
        life="",
        cpu_us=raw["cpu_stats"]["cpu_usage"]["total_usage"] // 1_000,
        mem_bytes=max(0, memory["usage"] - cache),
        mem_limit=limit if limit and limit < cgroups.NO_LIMIT else None,
        net_in=sum(card["rx_bytes"] for card in networks),
        net_out=sum(card["tx_bytes"] for card in networks),
        pids=(raw.get("pids_stats") or {}).get("current", 0),
    )
