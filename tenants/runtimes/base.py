"""The contract between the platform and whatever runs the agents: frozen spec in, JSON handle out.

Every verb may be called again after a crash: it looks first at what is there. Every verb raises
``DependencyDown`` (or ``DependencyTimeout`` when the act may have been applied) when the engine does not
answer, and ``RunFailed`` with a ``Reason`` as its type when trying again as it is can't help. What does not
bear this installation's labels is never touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from tenants.states import Egress

LABEL_INSTANCE = "zcplatform.instance"
LABEL_HELPER = "zcplatform.helper"
LABEL_TENANT = "zcplatform.tenant"
LABEL_RUN = "zcplatform.run"
LABEL_EPOCH = "zcplatform.epoch"
LABEL_SPEC = "zcplatform.spec"


@dataclass(frozen=True)
class Placement:
    """Where an agent finds itself, as seen from inside: what its config file must say."""

    listen_host: str
    listen_port: int
    config_dir: PurePosixPath
    data_dir: PurePosixPath
    in_container: bool = True  # False: a plain process that sees the host's own program files


@dataclass(frozen=True)
class AgentSpec:
    """Everything a runtime needs to run one agent. Built by ``tenants.provisioning.spec``, from our own rows only.

    ``memory_mb`` in MiB, ``cpus`` in cores, ``folder`` is the tenant's folder on the host (``config/`` is
    read-only to the agent, ``data/`` writable). ``epoch`` and ``run`` fence: they are labels and not part of
    the fingerprint, so an equal agent of an earlier run is adopted. ``egress`` says which network it is in.
    """

    instance: str
    tenant: str
    name: str
    hostname: str
    kind: str
    run: str
    epoch: int
    slot: int
    port: int
    uid: int
    image: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    config_dir: str
    data_dir: str
    listen_port: int
    memory_mb: int
    cpus: float
    pids: int
    folder: str
    config_hash: str
    egress: str = Egress.OPEN

    def fingerprint(self) -> str:
        """Equal for two specs that would run the same agent in the same way."""
        same = asdict(replace(self, run="", epoch=0))
        return hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Handle:
    """What finds an agent again, from another process and after a restart. Names *and* id are kept."""

    runtime: str
    name: str
    id: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Handle:
        return cls(runtime=value["runtime"], name=value["name"], id=value["id"])


class AgentState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    ABSENT = "absent"


@dataclass(frozen=True)
class Observed:
    """One agent as the engine sees it. ``restarts`` counts automatic restarts since it was started."""

    handle: Handle
    tenant: str
    state: AgentState
    run: str = ""
    epoch: int = 0
    fingerprint: str = ""
    port: int | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    started_at: datetime | None = None


@dataclass(frozen=True)
class Stray:
    """Something that runs of ``tenant`` (its public id) beside the agent that is known; ``what`` names it."""

    tenant: str
    what: str


@dataclass(frozen=True, order=True)
class Happening:
    """Something was done to an agent, perhaps by ourselves: to that of ``tenant`` (its public id), or where the engine
    tells only that, to the one whose handle's id is ``agent``."""

    tenant: str = ""
    agent: str = ""


@dataclass(frozen=True)
class ExecResult:
    """``output`` is stdout and stderr as they came; ``truncated`` says that more than the cap was thrown away."""

    exit_code: int | None
    output: str
    truncated: bool = False
    timed_out: bool = False


@dataclass(frozen=True)
class Reading:
    """What one running agent uses. ``cpu_us`` (microseconds) and ``net_in``/``net_out`` (bytes) count up from the
    beginning of the agent's present life, which ``life`` names; it is empty where the engine does not tell lives
    apart. None is what this runtime can't know. Memory in bytes, without what is only cached files."""

    life: str
    cpu_us: int
    mem_bytes: int
    mem_limit: int | None
    net_in: int | None
    net_out: int | None
    pids: int


@dataclass(frozen=True)
class LogPart:
    """``mark`` is opaque: only the runtime that gave it understands it. ``missed``: lines before ``text`` are left out,
    because there were more than are read at a time."""

    text: str
    mark: str
    missed: bool = False


@dataclass(frozen=True)
class Holder:
    """Who holds space on the disk: a tenant's uid, its folder, and the agent that may run."""

    uid: int
    folder: Path
    handle: Handle | None


@dataclass(frozen=True)
class EngineInfo:
    kind: str
    version: str
    detail: Mapping[str, Any]


class FolderKeeper(Protocol):
    """Prepares and clears tenant folders, with the owner that the runtime can give them.

    Layout below ``folder``: ``config/`` (files 0400) and ``data/`` (both 0700, owned by the tenant's uid where
    owners can be changed) and ``logs/`` (0700, the platform's). ``folder`` itself is the platform's, and others may
    at most pass through it (0711): a tenant adds, removes or exchanges no part. No symbolic link that a tenant
    planted is ever followed.
    """

    cheap: bool
    """Whether reading costs no more than system calls, so that it may be done for every tenant in every sweep."""

    def prepare(self, folder: Path, uid: int) -> None:
        """Make the folder and its parts, or complete what a killed worker began; owners and modes that are not as
        above are mended. RunFailed ``folder_failed``."""

    def write_config(self, folder: Path, uid: int, files: Mapping[str, bytes]) -> None:
        """Replace the content of ``config/`` by ``files``; a reader sees the old or the new file, never half of one."""

    def read_config(self, folder: Path) -> dict[str, bytes]:
        """What ``config/`` holds now, of 100 files the first MB each; empty when there is none."""

    def write_log(self, folder: Path, name: str, text: str) -> None:
        """Replace the file ``name`` in ``logs/`` by ``text``; without such a folder nothing happens. RunFailed
        ``folder_failed`` when the folder is not the platform's alone."""

    def read_log(self, folder: Path, name: str) -> str:
        """What ``write_log`` wrote, at most 1 MB; empty when there is none."""

    def size(self, folder: Path) -> int:
        """Bytes that the folder takes on the disk, each entry 4 KiB at least; 0 when there is none. What a tenant
        moves about while it is counted may be missing from it."""

    def archive(self, folder: Path, trash: Path) -> None:
        """Move the folder to ``trash`` by rename; already gone counts as done."""

    def bring_back(self, trash: Path, folder: Path, uid: int) -> None:
        """Give an archived folder to ``uid`` and move it back; nothing to do where none was archived."""

    def purge(self, trash: Path) -> None:
        """Delete an archived folder for good; already gone counts as done."""


class Runtime(Protocol):
    kind: str
    folders: FolderKeeper

    def check(self) -> EngineInfo:
        """The engine's version; DependencyDown when it does not answer."""

    def place(self, *, config_dir: str, data_dir: str, listen_port: int, folder: Path, port: int) -> Placement:
        """Where the agent will find itself: the arguments are the kind's paths inside a container, the tenant's
        folder on the host and the tenant's host port."""

    def ensure_image(self, image: str) -> str:
        """The id of what will run; RunFailed ``image_missing`` when it is not to be had."""

    def ensure_network(self, slot: int, egress: str = Egress.OPEN) -> str:
        """The name of the network for this slot in this mode, made when absent, with the mode enforced. Misconfigured
        ``egress_unenforced`` where a mode other than ``open`` can't be."""

    def remove_unused_networks(self) -> Sequence[str]:
        """Remove the networks of this installation that nothing is attached to; returns their names."""

    def tidy(self) -> Sequence[str]:
        """Remove what killed workers left of the runtime's own tools; returns the names of what is gone."""

    def create(self, spec: AgentSpec) -> Handle:
        """Create the agent, not started. An equal one of ours (same fingerprint, and still as it was made) is
        adopted, running or not; a different one of ours is removed first; one that is not ours is RunFailed
        ``name_conflict``."""

    def start(self, handle: Handle) -> None:
        """Start it; already running is success. A host port held by something else is RunFailed ``port_conflict``."""

    def stop(self, handle: Handle, *, grace_s: float = 10) -> None:
        """SIGTERM, then SIGKILL after ``grace_s`` seconds; stopped or absent is success."""

    def remove(self, handle: Handle) -> None:
        """Kill what still runs and remove it; absent is success."""

    def inspect(self, handle: Handle) -> Observed:
        """What it is now; state ABSENT when the engine knows nothing of it."""

    def deviations(self, spec: AgentSpec, handle: Handle) -> Sequence[str]:
        """How what runs differs from what ``spec`` asks for, limits and confinement above all, a line each; empty
        when it does not, or when nothing runs. One that was paused behind our back differs. ``run`` and ``epoch``
        are not compared."""

    def find(self, tenant: str) -> list[Observed]:
        """Everything of this installation that bears the tenant's label, whatever its state."""

    def list(self) -> list[Observed]:
        """Everything of this installation, whatever its state."""

    def strays(self, owners: Mapping[int, str]) -> Sequence[Stray]:
        """What runs of tenants, and ``list`` can't tell, since it is looked for in the world and not in our notes: an
        agent whose record was lost, and what an agent that was killed left behind. ``owners`` are the tenants of the
        node by their uid. Reads only."""

    def end_strays(self, tenant: str, uid: int | None) -> Sequence[Stray]:
        """End all of the tenant that ``strays`` would tell, and return it. What the known agent is made of stays while
        that runs. DependencyTimeout when some of it does not end."""

    def watch(self) -> Iterator[Happening | None]:
        """What happens to agents from now on, as the engine tells it; None whenever it had nothing to tell for a while.
        Ends when the engine ends it, at once where none tells anything. DependencyDown or DependencyTimeout when the
        connection breaks."""

    def measure(self, handles: Sequence[Handle]) -> Mapping[str, Reading]:
        """What each of these agents uses now, by the handle's id; one that does not run is left out. Cheap enough to
        be asked for every agent every minute; changes nothing."""

    def hidden(self, holders: Sequence[Holder]) -> Mapping[int, int]:
        """Bytes by uid that an agent takes where ``folders.size`` does not look: files that are open and have no name
        any more and, where nothing else bounds them, what it left in places that all agents share. Who can't be
        looked at is absent."""

    def logs(self, handle: Handle, *, tail: int = 100, times: bool = False) -> str:
        """The last ``tail`` lines of stdout and stderr, UTF-8 with replacement; empty when absent. With ``times`` each
        begins with the time at which it was printed, such as ``2026-01-31T12:00:00.123Z``, or a hyphen where nobody
        knows it, and a space."""

    def logs_after(self, handle: Handle, mark: str = "", *, times: bool = False) -> LogPart:
        """The whole lines printed after ``mark``, which an earlier call gave, at most about 1 MB of them; without a
        mark none, but a mark for what comes from now on. What was rotated away meanwhile is missing. Empty when
        absent."""

    def exec(self, handle: Handle, argv: Sequence[str], *, timeout_s: float = 60, cap: int = 1_048_576) -> ExecResult:
        """Run ``argv`` beside the agent, as its uid, without a shell. At the time limit the process and its
        children are really killed. Conflict ``not_running`` when the agent does not run."""
