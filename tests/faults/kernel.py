"""What runs, by the kernel's and the engine's word: past the platform's rows, notes and runtimes. Shares no code with
what it checks."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from tenants.models import Tenant
from tenants.runtimes.docker_engine import Engine
from tenants.states import Status

if TYPE_CHECKING:
    from tests.faults.world import World

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def commands() -> dict[int, str]:
    """The command lines of this host's processes; zombies have none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def keepers(home: Path) -> Counter[str]:
    """How many keepers each tenant has. One that is only being started shows twice for a moment: nobody starts one
    while a settled world is looked at."""
    pattern = re.compile(rf"shim\.py keep {re.escape(str(home))}/run/({UUID}) $")
    return Counter(match[1] for line in commands().values() if (match := pattern.search(line)))


def agents(home: Path) -> Counter[str]:
    """How many processes each tenant's folder stands in the command line or is the working directory of."""
    pattern = re.compile(rf"{re.escape(str(home))}/tenants/({UUID})")
    found: Counter[str] = Counter()
    for pid, line in commands().items():
        place = ""
        with suppress(OSError):
            place = os.readlink(f"/proc/{pid}/cwd")
        if match := pattern.search(line) or pattern.search(place):
            found[match[1]] += 1
    return found


def uids(taken: set[int]) -> Counter[int]:
    """How many processes each of ``taken`` has, those in containers too."""
    found: Counter[int] = Counter()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration):
            lines = (path / "status").read_text().splitlines()
            state = next(line for line in lines if line.startswith("State:"))
            uid = int(next(line for line in lines if line.startswith("Uid:")).split()[1])
            found.update([uid] if uid in taken and "Z" not in state.split()[1] else [])
    return found


def containers(engine: Path) -> dict[str, list[str]]:
    """The states of each tenant's containers, by label, asked of the engine itself and not over a wire."""
    found: dict[str, list[str]] = {}
    filters = {"label": [f"zcplatform.instance={settings.INSTANCE}", "zcplatform.tenant"]}
    for row in Engine(f"unix://{engine}").call("containers", all=True, filters=filters, limit_s=60):
        found.setdefault(row["Labels"]["zcplatform.tenant"], []).append(row["State"])
    return found


def locked(folder: Path) -> set[str]:
    """The files below ``folder`` that somebody holds a lock on."""
    held = {
        line.split()[5 + ("->" in line)].rpartition(":")[2] for line in Path("/proc/locks").read_text().splitlines()
    }
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if str(path.lstat().st_ino) in held}


def assert_nothing_unseen(world: World, alive: list[Tenant]) -> None:
    """W9: what runs is one agent of each tenant that is called running, by the kernel and by the engine."""
    up = {str(t.public_id): t for t in alive if t.status == Status.RUNNING}
    on_host = {i for i, t in up.items() if t.node.runtime == "process"}
    assert keepers(world.home) == Counter(on_host), "W9: keepers"
    found = agents(world.home)
    assert set(found) == on_host, "W9: processes of nobody, or none"
    held = {name for name in locked(world.home / "run") if "/" in name or name.endswith(".lock")}
    assert held == {f"{i}/held" for i in on_host}, "W9: locks"
    if world.engine is not None:
        states = {i: s for i, s in containers(world.engine.back).items() if i not in up or s != ["running"]}
        assert not [s for i, s in states.items() if i in up or "running" in s or len(s) > 1], f"W9: {states}"
        there = containers(world.engine.back)
        assert {i for i, t in up.items() if t.node.runtime == "docker"} <= set(there), "W9: a container is missing"
