"""Agents as child processes of this host, without any container engine.

Each agent has a small keeper (``shim.py``) that outlives the web and worker processes. What this runtime gives:
an own uid where it runs as root, own folders, watched memory and number of processes, capped logs. What it does
not give: tenants see the host's file system as far as its modes let them, and share its loopback and its cores
(``cpus`` is not enforced). It is meant for development and for small hosts whose tenants are trusted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from django.conf import settings

from tenants.egress import firewall
from tenants.folders import DirectFolders
from tenants.runtimes import cgroups, folder_script, loose_files, shim_tree, traces
from tenants.runtimes.agent_user import AgentUser, agent_user
from tenants.runtimes.base import (
    AgentSpec,
    AgentState,
    EngineInfo,
    ExecResult,
    Handle,
    Happening,
    Holder,
    LogPart,
    Observed,
    Placement,
    Reading,
    Stray,
)
from tenants.runtimes.rundir import RunDir, alive
from tenants.states import Egress
from zcplatform.lib import ports
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import Conflict, DependencyDown, DependencyTimeout, Misconfigured, RunFailed

SYSTEMD = Path("/run/systemd/system")
SHIM = Path(__file__).absolute().with_name("shim.py")
SPAWN_S = 20
SHARED = ("/dev/shm", "/tmp", "/var/tmp")  # noqa: S108 - looked at, never written
SHARED_S = 3.0
_SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
T = TypeVar("T")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class ProcessRuntime:
    kind = "process"

    def __init__(self, endpoint: str = "") -> None:
        """There is only this host; ``endpoint`` is for runtimes that have somewhere else to go."""
        self.folders = DirectFolders()

    def check(self) -> EngineInfo:
        """``detail`` says under whose uid agents will run, and what stands in the way of the tenant's own."""
        user = agent_user()
        detail: dict[str, Any] = {"agents_run_as": "tenant" if user.own else "caller", "allowed": user.allowed}
        detail |= {"closed": list(user.closed), "why": user.why, "todo": user.todo}
        return EngineInfo(kind=self.kind, version=os.uname().release, detail=detail)

    def place(self, *, config_dir: str, data_dir: str, listen_port: int, folder: Path, port: int) -> Placement:
        config, data = PurePosixPath(folder / "config"), PurePosixPath(folder / "data")
        return Placement("127.0.0.1", port, config, data, in_container=False)

    def ensure_image(self, image: str) -> str:
        return self.kind

    def ensure_network(self, slot: int, egress: str = Egress.OPEN) -> str:
        """A process is in the host's own network, which can't be narrowed for it."""
        firewall.refuse_unless_open(egress, firewall.SHARED_NETWORK)
        return "host"

    def remove_unused_networks(self) -> Sequence[str]:
        return ()

    def tidy(self) -> Sequence[str]:
        return ()

    def create(self, spec: AgentSpec) -> Handle:
        """Here ``name_conflict`` is a run folder that another installation keeps in the same home. Misconfigured
        ``unprivileged_process`` where tenants could not have a uid of their own and no setting allows that."""
        check_allowed()
        run, handle = RunDir(spec.tenant), Handle(runtime=self.kind, name=spec.name, id=spec.tenant)
        with run.locked():
            there = run.record()
            if there and there["instance"] != spec.instance:
                raise RunFailed("Another installation runs this tenant here.", type="name_conflict")
            if there and there["fingerprint"] == spec.fingerprint() and there["name"] == spec.name:
                return handle
            if there:
                run.end(grace_s=0)
                self._end_rest(run, there["uid"])
                run.delete()
            run.write_record(record_of(spec))
        return handle

    def start(self, handle: Handle) -> None:
        """RunFailed ``folder_unreachable`` names the first path that the tenant's uid can't enter;
        ``image_missing`` when there is no such program; ``spec_drift`` when the agent is absent."""
        check_allowed()
        run = RunDir(handle.id)
        with run.locked():
            record = run.ours()
            if record is None:
                raise RunFailed("The agent to start is not there.", type="spec_drift")
            user = agent_user(record["job"]["paths"], record["uid"]).require()
            if alive(run.state()):
                return
            run.clear_leftovers()
            self._end_rest(run, record["uid"])
            check_port(record["port"])
            launch(run, record, user)

    def stop(self, handle: Handle, *, grace_s: float = 10) -> None:
        run = RunDir(handle.id)
        with run.locked():
            if record := run.ours():
                run.end(grace_s)
                self._end_rest(run, record["uid"], grace_s=grace_s)

    def remove(self, handle: Handle) -> None:
        run = RunDir(handle.id)
        with run.locked():
            if record := run.ours():
                run.end(grace_s=0)
                self._end_rest(run, record["uid"])
                run.delete()

    def inspect(self, handle: Handle) -> Observed:
        run = RunDir(handle.id)
        record = run.ours()
        return observed(run, record) if record else Observed(handle=handle, tenant="", state=AgentState.ABSENT)

    def deviations(self, spec: AgentSpec, handle: Handle) -> Sequence[str]:
        """Looks at every process of the agent: its uid, and that it can't gain privileges."""
        run = RunDir(handle.id)
        record, state = run.ours(), run.state()
        if record is None or not alive(state):
            return ()
        uid = spec.uid if agent_user(record["job"]["paths"], spec.uid).own else os.geteuid()
        found = [] if record["fingerprint"] == spec.fingerprint() else ["it was started from another spec"]
        return found + [line for pid in shim_tree.descendants(state["shim"][0]) for line in loosened(pid, uid)]

    def find(self, tenant: str) -> list[Observed]:
        run = RunDir(tenant)
        record = run.ours()
        return [observed(run, record)] if record else []

    def list(self) -> list[Observed]:
        """One whose record is damaged keeps no other from being seen."""
        found = [_of_one(run, observed) for run in RunDir.all()]
        return [seen for seen in found if seen]

    def strays(self, owners: Mapping[int, str]) -> Sequence[Stray]:
        """Keepers that no note names, and what agents have left behind to nobody."""
        runs = {path.path.name: path for path in RunDir.all()}
        foreign = {name for name, run in runs.items() if run.record() and not run.ours()}
        found = traces.find(owners, {name: run.state() for name, run in runs.items()})
        return [Stray(trace.tenant, str(trace)) for trace in found if trace.tenant not in foreign]

    def end_strays(self, tenant: str, uid: int | None) -> Sequence[Stray]:
        run = RunDir(tenant)
        with run.locked():
            if run.record() and not run.ours():
                return ()
            return [Stray(tenant, str(trace)) for trace in self._end_rest(run, uid)]

    def watch(self) -> Iterator[Happening | None]:
        """No engine: the sweep looks, and the keeper itself starts what ends."""
        return iter(())

    @staticmethod
    def _end_rest(run: RunDir, uid: int | None, *, grace_s: float = 0) -> Sequence[traces.Trace]:
        """What the note does not name: it may have been lost, or speak of another keeper."""
        return traces.end(run.path.name, uid, run.state(), grace_s=grace_s)

    def measure(self, handles: Sequence[Handle]) -> Mapping[str, Reading]:
        """The network is the host's own: what of it is an agent's can't be told."""
        readings = {handle.id: _of_one(RunDir(handle.id), reading) for handle in handles}
        return {i: found for i, found in readings.items() if found}

    def hidden(self, holders: Sequence[Holder]) -> Mapping[int, int]:
        """Without names, in memory that is shared, and in the folders of the host that everybody may write to. Nothing
        where agents have no uid of their own, by which that could be told apart."""
        uids = {holder.uid for holder in holders} - {0}
        if os.geteuid() != 0 or not uids:
            return {}
        found = [loose_files.held(uids), loose_files.shared_memory(uids), *map(_owners, SHARED)]
        return {uid: sum(owned.get(uid, 0) for owned in found) for uid in uids}

    def logs(self, handle: Handle, *, tail: int = 100, times: bool = False) -> str:
        run = RunDir(handle.id)
        return run.tail(tail, times=times).decode("utf-8", "replace") if run.ours() else ""

    def logs_after(self, handle: Handle, mark: str = "", *, times: bool = False) -> LogPart:
        run = RunDir(handle.id)
        text, mark = run.after(mark, times=times) if run.ours() else (b"", mark)
        return LogPart(text.decode("utf-8", "replace"), mark)

    def exec(self, handle: Handle, argv: Sequence[str], *, timeout_s: float = 60, cap: int = 1_048_576) -> ExecResult:
        """Runs under the uid, in the folder and with the environment of the agent, with a memory and process limit
        of the same size. What the command leaves in the background ends with it."""
        run = RunDir(handle.id)
        record, state = run.ours(), run.state()
        if record is None or state.get("phase") != "running" or not alive(state):
            raise Conflict("The agent does not run.", type="not_running")
        job = {**record["job"], "argv": [*argv], "uid": state["uid"], "paths": []}
        answer = call_shim("once", run, {**job, "timeout_s": timeout_s, "cap": cap}, limit_s=timeout_s + SPAWN_S)
        head, _, output = answer.partition(b"\n")
        return ExecResult(output=output.decode("utf-8", "replace"), **json.loads(head))


def _owners(folder: str) -> Mapping[int, int]:
    """What lies below a folder that all may write to, by owner; of a very full one what can be looked at in time."""
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        return folder_script.weigh(top, SHARED_S)
    finally:
        os.close(top)


def record_of(spec: AgentSpec) -> dict[str, Any]:
    """What is kept of a spec: who it is for, how to tell it from another, and what the shim has to run."""
    keys = ("instance", "tenant", "name", "run", "epoch", "port", "uid")
    folders = [f"{spec.folder}/config", f"{spec.folder}/data"]
    job = {
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "cwd": folders[1],
        "paths": [*(word for word in spec.argv if word.startswith("/")), *folders],
        "memory_mb": spec.memory_mb,
        "pids": spec.pids,
    }
    return {**{key: getattr(spec, key) for key in keys}, "fingerprint": spec.fingerprint(), "job": job}


def _of_one(run: RunDir, look: Callable[[RunDir, dict[str, Any]], T | None]) -> T | None:
    """What ``look`` tells of an agent of ours; None when there is none, or its record can't be read."""

    def of_ours() -> T | None:
        record = run.ours()
        return look(run, record) if record else None

    return contained(of_ours, None, what="agent can't be read", tenant_id=run.path.name)


def observed(run: RunDir, record: dict[str, Any]) -> Observed:
    """An agent that waits for its restart counts as running, as with an engine. One whose shim is gone, after a
    reboot for example, has exited, whatever the shim wrote last."""
    state = run.state()
    ended = AgentState.EXITED if state else AgentState.CREATED
    started = state.get("started_at")
    return Observed(
        handle=Handle(runtime=ProcessRuntime.kind, name=record["name"], id=record["tenant"]),
        tenant=record["tenant"],
        state=AgentState.RUNNING if alive(state) else ended,
        run=record["run"],
        epoch=record["epoch"],
        fingerprint=record["fingerprint"],
        port=record["port"],
        exit_code=state.get("exit_code"),
        oom_killed=state.get("oom_killed", False),
        restarts=state.get("restarts", 0),
        started_at=datetime.fromtimestamp(started, UTC) if started else None,
    )


def reading(run: RunDir, record: dict[str, Any]) -> Reading | None:
    """What the agent uses; None when it does not run. A start by its keeper begins a new life too. The CPU time of
    what it left behind to the keeper, and has ended, is lost."""
    state = run.state()
    if state.get("phase") != "running" or not alive(state):
        return None
    keeper, _ = state["shim"]
    tree = shim_tree.descendants(keeper)
    return Reading(
        life=f"{state['boot'][:8]}:{keeper}:{state['started_at']}",
        cpu_us=sum(map(shim_tree.cpu_us, tree)),
        mem_bytes=max(sum(map(shim_tree.proportional, tree)), cgroups.memory_of_unit(keeper, unit_of(run.path.name))),
        mem_limit=record["job"]["memory_mb"] * 1_048_576,
        net_in=None,
        net_out=None,
        pids=len(tree),
    )


def loosened(pid: int, uid: int) -> list[str]:
    """How a process is less confined than ``uid`` without a way to more privileges; one that has ended is not."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        strange = sorted({int(value) for value in status["Uid"]} - {uid})
        found = [f"process {pid} has the uid {other}, not {uid}" for other in strange]
        if status["NoNewPrivs"] != ["1"]:
            found.append(f"process {pid} may gain privileges")
        return found
    return []


def check_allowed() -> None:
    """Misconfigured ``unprivileged_process`` when agents would share the platform's uid and no setting allows it. What
    is closed to an agent depends on what it uses: ``start`` tells that."""
    user = agent_user()
    if not user.closed:
        user.require()


def check_port(port: int) -> None:
    if not ports.is_free(port):
        raise RunFailed(f"Port {port} is taken by something else.", type="port_conflict", port=port)


def launch(run: RunDir, record: dict[str, Any], user: AgentUser) -> None:
    """Start the shim and wait until it says that the agent runs, or why not."""
    job = {
        **record["job"],
        "uid": record["uid"] if user.own else None,
        "log_size": in_bytes(settings.LOG_MAX_SIZE),
        "log_files": max(1, settings.LOG_MAX_FILES),
    }
    failure = json.loads(call_shim("keep", run, job, limit_s=SPAWN_S, prefix=scope(record["tenant"])))
    if kind := failure.get("type"):
        reasons = {"unreachable": "folder_unreachable", "missing": "image_missing"}
        path = failure["path"]
        raise RunFailed(f"{path}: {failure['text']}", type=reasons.get(kind, "internal_error"), path=path)


def scope(tenant: str) -> list[str]:
    """Under systemd a restart of our service would kill what it started: the shim gets a scope of its own."""
    if os.geteuid() != 0 or not SYSTEMD.is_dir():
        return []
    return ["systemd-run", "--scope", "--collect", "--quiet", f"--unit={unit_of(tenant)}", "--"]


def unit_of(tenant: str) -> str:
    return f"zcplatform-{settings.INSTANCE}-{tenant}"


def call_shim(mode: str, run: RunDir, job: dict[str, Any], *, limit_s: float, prefix: Sequence[str] = ()) -> bytes:
    """What the shim answers; DependencyDown when it ends without an answer, DependencyTimeout when there is none."""
    argv = [*prefix, sys.executable, "-I", "-S", str(SHIM), mode, str(run.path)]
    try:
        done = subprocess.run(
            argv,
            input=json.dumps({**job, "mark": str(run.path)}).encode(),
            capture_output=True,
            timeout=limit_s,
            env={"PATH": shim_tree.PATH},
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        raise DependencyTimeout("The agent's keeper did not answer in time.") from error
    if not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DependencyDown(f"The agent's keeper ended without an answer: {said[-1] if said else done.returncode}")
    return done.stdout


def in_bytes(size: str) -> int:
    """``50m`` as a number of bytes; Misconfigured when it is none."""
    found = _SIZE.fullmatch(size.strip())
    if not found:
        raise Misconfigured(f"LOG_MAX_SIZE={size!r}: expected a size like 50m.", setting="LOG_MAX_SIZE")
    return int(found[1]) * _UNITS[found[2].lower()]
