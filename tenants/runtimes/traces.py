"""What runs of the process runtime's agents by the kernel's word alone, whatever the notes below ``HOME/run`` say.

A keeper is known by its command line, which names the run folder. What no keeper is above any more is known by the
tenant's uid, which nobody else has; where agents share the platform's uid, by a mark in their environment. What runs in
a container, or below the keeper of another run folder, is somebody else's.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from tenants.runtimes import shim_tree
from tenants.runtimes.rundir import alive, end_process, send
from tenants.runtimes.shim_tree import MARK
from zcplatform.lib.errors import DependencyTimeout

_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Trace:
    """One process: ``tenant`` is whose, ``keeper`` says that it is a keeper and not something an agent started."""

    pid: int
    start: int
    tenant: str
    keeper: bool = False

    def __str__(self) -> str:
        return f"{'keeper' if self.keeper else 'process'} {self.pid}"


@dataclass(frozen=True)
class _Process:
    parent: int
    session: int
    start: int
    uid: int
    shim: tuple[str, str] = ("", "")  # its mode and its run folder


def find(owners: Mapping[int, str], noted: Mapping[str, dict[str, Any]]) -> list[Trace]:
    """Every process of an agent that the notes don't account for. ``owners`` are the tenants by uid, ``noted`` is each
    tenant's ``state.json``."""
    known = {tuple(state["shim"]) for state in noted.values() if alive(state)}
    first = _look(owners, known)
    # Parents end while we read. What one look took for left behind may only have lost its parent between two readings.
    return [trace for trace in _look(owners, known) if trace in first] if first else []


def _look(owners: Mapping[int, str], known: set[tuple[int, int]]) -> list[Trace]:
    there = dict(_processes())
    keepers = [trace for pid, process in there.items() if (trace := _keeper(pid, process))]
    unnoted = [trace for trace in keepers if (trace.pid, trace.start) not in known]
    up = {trace.tenant for trace in keepers if trace not in unnoted}
    loose = (_loose(pid, there, owners, up) for pid in there)
    return unnoted + [trace for trace in loose if trace]


def end(tenant: str, uid: int | None, noted: dict[str, Any], *, grace_s: float) -> list[Trace]:
    """End all of the tenant that its note ``noted`` does not account for, and return it. DependencyTimeout when some
    of it can't be ended."""
    seen: dict[Trace, None] = {}
    deadline = time.monotonic() + grace_s + 2 * shim_tree.KILL_S
    while left := _of_tenant(tenant, uid, noted):
        if time.monotonic() > deadline:
            names = ", ".join(map(str, left))
            raise DependencyTimeout(f"What the agent left behind does not end: {names}.")
        for trace in left:
            _end_keeper(trace, grace_s) if trace.keeper else send(trace.pid, trace.start, signal.SIGKILL)
        seen.update(dict.fromkeys(left))
    if uid is not None and os.geteuid() == 0 and not alive(noted):
        _end_uid(uid, tenant)
    return list(seen)


def _of_tenant(tenant: str, uid: int | None, noted: dict[str, Any]) -> list[Trace]:
    owners = {} if uid is None else {uid: tenant}
    return [trace for trace in find(owners, {tenant: noted}) if trace.tenant == tenant]


def _end_uid(uid: int, tenant: str) -> None:
    """Kill in one act, between two of whose steps nothing can fork, all that has the tenant's uid: what forks and ends
    without pause is never met where it was seen. Not when an agent of somebody else, in a container or of another
    installation on this host, has the same uid."""
    there = dict(_processes())
    if any(_is_foreign(pid, there, tenant) for pid, process in there.items() if process.uid == uid):
        return
    deadline = time.monotonic() + shim_tree.KILL_S
    while not _kill_as(uid):
        if time.monotonic() > deadline:
            raise DependencyTimeout(f"What has the uid {uid} does not end: it stops or kills who is sent to end it.")


def _kill_as(uid: int) -> bool:
    """Whether a child of ours, with the tenant's uid, has killed all that has it. From the moment that it has the uid
    the agent may signal it too: one that was stopped is not waited for, one that was killed has not done it."""
    child = os.fork()
    if child == 0:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # our handlers are not for an agent to run
            with suppress(OSError):  # a uid that can't be had here has no processes either
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def _is_foreign(pid: int, there: Mapping[int, _Process], tenant: str) -> bool:
    mode, folder = _shim_above(pid, there)
    return _in_container(pid) or bool(mode and Path(folder) != _root() / tenant)


def _end_keeper(trace: Trace, grace_s: float) -> None:
    """It ends all that it keeps, and when it does not, that is found below no keeper in the next round."""
    tree = [(pid, shim_tree.start_time(pid)) for pid in shim_tree.descendants(trace.pid)]
    if not end_process(trace.pid, trace.start, patience_s=grace_s + shim_tree.KILL_S):
        for process in tree:
            send(*process, signal.SIGKILL)


def _keeper(pid: int, process: _Process) -> Trace | None:
    """A keeper of this home; it leads a session, which whatever is about to become one does not."""
    mode, folder = process.shim
    if mode != "keep" or process.session != pid or not (tenant := _tenant_of(folder)):
        return None
    return Trace(pid, process.start, tenant, keeper=True)


def _loose(pid: int, there: Mapping[int, _Process], owners: Mapping[int, str], up: set[str]) -> Trace | None:
    """What an agent left behind to nobody. A command beside the agent is accounted for while the agent runs."""
    process = there[pid]
    if process.shim[0] or not (tenant := _owner(pid, process, owners)):
        return None
    mode, folder = _shim_above(pid, there)
    if mode and (Path(folder) != _root() / tenant or mode == "keep" or tenant in up):
        return None
    return Trace(pid, process.start, tenant)


def _owner(pid: int, process: _Process, owners: Mapping[int, str]) -> str:
    if os.geteuid() == 0 and process.uid in owners:
        return "" if _in_container(pid) else owners[process.uid]
    return _marked(pid) if process.uid == os.geteuid() else ""


def _shim_above(pid: int, there: Mapping[int, _Process]) -> tuple[str, str]:
    for _ in range(len(there)):  # pids are used again while we read: what we hold may lead in a circle
        pid = there[pid].parent
        if pid not in there:
            break
        if there[pid].shim[0]:
            return there[pid].shim
    return "", ""


def _processes() -> Iterator[tuple[int, _Process]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (process := _process(int(path.name))):
            yield int(path.name), process


def _process(pid: int) -> _Process | None:
    """None when it has ended, or is a zombie."""
    fields, uid = shim_tree.stat_fields(pid), _uid(pid)
    if not fields or uid is None or shim_tree.has_ended(fields):
        return None
    shim = _shim(pid) if uid == os.geteuid() else ("", "")
    return _Process(int(fields[1]), int(fields[3]), int(fields[19]), uid, shim)


def _uid(pid: int) -> int | None:
    """The real uid. The owner of the folder in /proc would not do: a process may have that become root's."""
    with suppress(OSError), Path(f"/proc/{pid}/status").open("rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"Uid:")), None)
    return None


def _shim(pid: int) -> tuple[str, str]:
    argv = _words(pid, "cmdline")[-3:]
    if len(argv) == 3 and argv[0].endswith("/shim.py") and argv[1] in ("keep", "once"):
        return argv[1], argv[2]
    return "", ""


def _marked(pid: int) -> str:
    """The tenant whose run folder stands in the environment."""
    for word in _words(shim_tree.running(pid), "environ"):
        name, _, folder = word.partition("=")
        if name == MARK:
            return _tenant_of(folder)
    return ""


def _tenant_of(folder: str) -> str:
    """Empty for a folder that is not of this home, or whose name could not be a tenant's id."""
    try:
        return str(UUID(Path(folder).name)) if Path(folder).parent == _root() else ""
    except ValueError:
        return ""


def _in_container(pid: int) -> bool:
    """Every engine's control groups bear the container's id, and no agent can leave its own. We may be in one too."""
    return bool(_container_ids(pid) - _container_ids(os.getpid()))


def _container_ids(pid: int) -> set[str]:
    with suppress(OSError):
        return set(_CONTAINER.findall(Path(f"/proc/{pid}/cgroup").read_text()))
    return set()


def _words(pid: int, name: str) -> list[str]:
    with suppress(OSError):
        return [os.fsdecode(word) for word in Path(f"/proc/{pid}/{name}").read_bytes().rstrip(b"\0").split(b"\0")]
    return []


def _root() -> Path:
    return Path(settings.HOME) / "run"
