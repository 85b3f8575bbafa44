"""Runtimes and routers in memory, and failing ones by name. ``FakeRuntime`` passes the contract of the runtimes.

State is shared by endpoint, as with a real engine: two drivers of one endpoint see the same agents.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from tenants.folders import DirectFolders
from tenants.routing.base import Route, RouterInfo, SyncResult
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
from zcplatform.lib import clock
from zcplatform.lib.errors import Conflict, DependencyDown, DependencyTimeout, RunFailed


class _Health(BaseHTTPRequestHandler):
    """Answers every GET with the status that its server was given."""

    server: _Server

    def do_GET(self) -> None:
        body = json.dumps({"status": "ok" if self.server.status == 200 else "failing"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Silence."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = False
    status = 200


@dataclass
class FakeAgent:
    """One agent of a fake engine. A test may change what is seen of it: ``exit_code``, ``oom_killed``, ``restarts``,
    ``reading``."""

    spec: AgentSpec
    handle: Handle
    state: AgentState = AgentState.CREATED
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    started_at: datetime | None = None
    output: list[str] = field(default_factory=list)
    reading: Reading | None = None
    server: _Server | None = None

    def observed(self) -> Observed:
        return Observed(
            handle=self.handle,
            tenant=self.spec.tenant,
            state=self.state,
            run=self.spec.run,
            epoch=self.spec.epoch,
            fingerprint=self.spec.fingerprint(),
            port=self.spec.port,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            restarts=self.restarts,
            started_at=self.started_at,
        )

    def serve(self, status: int) -> None:
        self.server = _Server(("127.0.0.1", self.spec.port), _Health)
        self.server.status = status
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self, exit_code: int = 0) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        if self.state == AgentState.RUNNING:
            self.state, self.exit_code = AgentState.EXITED, exit_code


@dataclass
class FakeEngine:
    """What the drivers of one endpoint share. ``calls`` is every verb with the tenant or slot that it was for."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    agents: dict[str, FakeAgent] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    strays: list[tuple[str, str]] = field(default_factory=list)

    def clear(self) -> None:
        with self.lock:
            for agent in self.agents.values():
                agent.end()
            self.agents.clear()
            self.calls.clear()
            self.strays.clear()


ENGINES: dict[str, FakeEngine] = defaultdict(FakeEngine)


class FakeRuntime:
    """Agents in memory, by name. With ``serving`` a started one answers GET with ``health_status`` on its port."""

    kind = "fake"
    serving = False
    health_status = 200
    answer = ExecResult(exit_code=0, output="")

    def __init__(self, endpoint: str = "") -> None:
        self.endpoint = endpoint
        self.engine = ENGINES[endpoint]
        self.folders = DirectFolders()

    def _called(self, verb: str, whom: object = "") -> None:
        """The first thing that every verb does; the failing runtimes fail here."""
        self.engine.calls.append((verb, str(whom)))

    def _ours(self, handle: Handle) -> FakeAgent | None:
        agent = self.engine.agents.get(handle.name)
        if agent is None or agent.spec.instance != settings.INSTANCE or agent.handle.id != handle.id:
            return None
        return agent

    def check(self) -> EngineInfo:
        self._called("check")
        return EngineInfo(kind=self.kind, version="1", detail={})

    def place(self, *, config_dir: str, data_dir: str, listen_port: int, folder: Path, port: int) -> Placement:
        config, data = PurePosixPath(folder / "config"), PurePosixPath(folder / "data")
        return Placement("127.0.0.1", port, config, data, in_container=False)

    def ensure_image(self, image: str) -> str:
        self._called("ensure_image", image)
        return f"fake:{image}"

    def ensure_network(self, slot: int, egress: str = "open") -> str:
        self._called("ensure_network", slot)
        return "fake"

    def remove_unused_networks(self) -> Sequence[str]:
        return ()

    def tidy(self) -> Sequence[str]:
        return ()

    def create(self, spec: AgentSpec) -> Handle:
        self._called("create", spec.tenant)
        with self.engine.lock:
            there = self.engine.agents.get(spec.name)
            if there and there.spec.instance != spec.instance:
                raise RunFailed("Something that is not ours has the name.", type="name_conflict")
            if there and there.spec.fingerprint() == spec.fingerprint():
                return there.handle
            if there:
                there.end()
            handle = Handle(runtime=self.kind, name=spec.name, id=uuid.uuid4().hex)
            self.engine.agents[spec.name] = FakeAgent(spec=spec, handle=handle)
            return handle

    def start(self, handle: Handle) -> None:
        self._called("start", handle.name)
        with self.engine.lock:
            agent = self._ours(handle)
            if agent is None:
                raise RunFailed("The agent to start is not there.", type="spec_drift")
            if agent.state == AgentState.RUNNING:
                return
            if self.serving:
                self._serve(agent)
            agent.state, agent.started_at = AgentState.RUNNING, clock.now()
            agent.exit_code, agent.oom_killed, agent.restarts = None, False, 0
            agent.output.append("started")

    def _serve(self, agent: FakeAgent) -> None:
        try:
            agent.serve(self.health_status)
        except OSError as error:
            raise RunFailed("The port is taken.", type="port_conflict", port=agent.spec.port) from error

    def stop(self, handle: Handle, *, grace_s: float = 10) -> None:
        self._called("stop", handle.name)
        with self.engine.lock:
            if agent := self._ours(handle):
                agent.end()

    def remove(self, handle: Handle) -> None:
        self._called("remove", handle.name)
        with self.engine.lock:
            if agent := self._ours(handle):
                agent.end(137)
                del self.engine.agents[handle.name]

    def inspect(self, handle: Handle) -> Observed:
        self._called("inspect", handle.name)
        with self.engine.lock:
            agent = self._ours(handle)
            return agent.observed() if agent else Observed(handle=handle, tenant="", state=AgentState.ABSENT)

    def deviations(self, spec: AgentSpec, handle: Handle) -> list[str]:
        self._called("deviations", handle.name)
        agent = self._ours(handle)
        if agent is None or agent.state != AgentState.RUNNING:
            return []
        fields = ("memory_mb", "cpus", "pids", "uid", "port", "image")
        pairs = [(name, getattr(agent.spec, name), getattr(spec, name)) for name in fields]
        return [f"{name} is {found}, not {wanted}" for name, found, wanted in pairs if found != wanted]

    def find(self, tenant: str) -> list[Observed]:
        self._called("find", tenant)
        return self._seen(lambda spec: spec.tenant == tenant)

    def list(self) -> list[Observed]:
        self._called("list")
        return self._seen(lambda _spec: True)

    def _seen(self, wanted: Callable[[AgentSpec], bool]) -> list[Observed]:
        with self.engine.lock:
            ours = [a for a in self.engine.agents.values() if a.spec.instance == settings.INSTANCE]
            return [agent.observed() for agent in ours if wanted(agent.spec)]

    def hidden(self, holders: Sequence[Holder]) -> dict[int, int]:
        self._called("hidden")
        return {}

    def strays(self, owners: Mapping[int, str]) -> list[Stray]:
        self._called("strays")
        return [Stray(tenant, what) for tenant, what in self.engine.strays]

    def watch(self) -> Iterator[Happening | None]:
        return iter(())

    def end_strays(self, tenant: str, uid: int | None) -> list[Stray]:
        self._called("end_strays", tenant)
        ended = [Stray(*stray) for stray in self.engine.strays if stray[0] == tenant]
        self.engine.strays = [stray for stray in self.engine.strays if stray[0] != tenant]
        return ended

    def measure(self, handles: Sequence[Handle]) -> dict[str, Reading]:
        self._called("measure")
        up = {h.id: a for h in handles if (a := self._ours(h)) and a.state == AgentState.RUNNING}
        return {i: a.reading or _reading(a) for i, a in up.items()}

    def logs(self, handle: Handle, *, tail: int = 100, times: bool = False) -> str:
        self._called("logs", handle.name)
        with self.engine.lock:
            agent = self._ours(handle)
            return _printed(agent.output[-tail:], times) if agent else ""

    def logs_after(self, handle: Handle, mark: str = "", *, times: bool = False) -> LogPart:
        self._called("logs_after", handle.name)
        with self.engine.lock:
            agent = self._ours(handle)
            output = agent.output if agent else []
            new = output[int(mark) :] if mark else []
            return LogPart(_printed(new, times), str(len(output)))

    def exec(self, handle: Handle, argv: Sequence[str], *, timeout_s: float = 60, cap: int = 1_048_576) -> ExecResult:
        self._called("exec", handle.name)
        with self.engine.lock:
            agent = self._ours(handle)
            if agent is None or agent.state != AgentState.RUNNING:
                raise Conflict("The agent does not run.", type="not_running")
            output = self.answer.output[:cap]
            return replace(self.answer, output=output, truncated=len(output) < len(self.answer.output))


def _printed(lines: list[str], times: bool) -> str:
    return "".join(f"2026-01-31T12:00:00.123Z {line}\n" if times else f"{line}\n" for line in lines)


def _reading(agent: FakeAgent) -> Reading:
    """An idle agent of one process, in the life that began with its last start."""
    limit = agent.spec.memory_mb * 1_048_576
    return Reading(f"{agent.started_at}", 1_000, 1_048_576, limit, 0, 0, 1)


class ServingRuntime(FakeRuntime):
    """Its agents answer GET /health with 200 on the tenant's port."""

    serving = True


class SlowRuntime(ServingRuntime):
    """Every verb takes ``delay_s`` seconds."""

    delay_s = 0.2

    def _called(self, verb: str, whom: object = "") -> None:
        super()._called(verb, whom)
        time.sleep(self.delay_s)


class NeverHealthy(ServingRuntime):
    """Agents start and answer, but always with 503."""

    health_status = 503


class BadRuntime(FakeRuntime):
    """``create`` fails for good."""

    def create(self, spec: AgentSpec) -> Handle:
        self._called("create", spec.tenant)
        raise RunFailed("The image is not there.", type="image_missing")


class VanishingRuntime(FakeRuntime):
    """The agent starts and is gone, as if somebody had removed it."""

    def start(self, handle: Handle) -> None:
        super().start(handle)
        self.remove(handle)


class DownRuntime(FakeRuntime):
    """No verb gets an answer."""

    def _called(self, verb: str, whom: object = "") -> None:
        super()._called(verb, whom)
        raise DependencyDown("The engine does not answer.")


class LostReplyRuntime(ServingRuntime):
    """The first call of each verb in ``loses`` is applied, and its reply is lost. Told apart by endpoint and verb."""

    loses: Iterable[str] = ("create", "start", "stop", "remove")
    lost: dict[str, set[str]] = defaultdict(set)

    def _lose(self, verb: str) -> None:
        if verb in self.loses and verb not in self.lost[self.endpoint]:
            self.lost[self.endpoint].add(verb)
            raise DependencyTimeout("The engine did not answer in time.")

    def create(self, spec: AgentSpec) -> Handle:
        handle = super().create(spec)
        self._lose("create")
        return handle

    def start(self, handle: Handle) -> None:
        super().start(handle)
        self._lose("start")

    def stop(self, handle: Handle, *, grace_s: float = 10) -> None:
        super().stop(handle, grace_s=grace_s)
        self._lose("stop")

    def remove(self, handle: Handle) -> None:
        super().remove(handle)
        self._lose("remove")


class FakeRouter:
    """Routes in a dict by tenant. ``connect`` goes straight to the agent's port."""

    kind = "fake"

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.routes: dict[str, Route] = {}
        self.syncs = 0

    def check(self) -> RouterInfo:
        return RouterInfo(kind=self.kind, version="1")

    def sync(self, desired: Callable[[], Sequence[Route]]) -> SyncResult:
        with self.lock:
            wanted = desired()
            result = self.differences(wanted)
            self.routes = {route.tenant: route for route in wanted}
            self.syncs += 1
            return result

    def differences(self, desired: Sequence[Route]) -> SyncResult:
        wanted = {route.tenant: route for route in desired}
        with self.lock:
            both = wanted.keys() & self.routes.keys()
            return SyncResult(
                added=tuple(sorted(wanted.keys() - both)),
                changed=tuple(sorted(t for t in both if wanted[t] != self.routes[t])),
                removed=tuple(sorted(self.routes.keys() - both)),
            )

    def is_gone(self) -> bool:
        return False

    def url(self, slug: str) -> str:
        return f"http://{slug}.fake.localhost"

    def connect(self, slug: str) -> tuple[str, Mapping[str, str]]:
        with self.lock, suppress(StopIteration):
            port = next(route.port for route in self.routes.values() if route.slug == slug)
            return f"http://127.0.0.1:{port}", {"Host": f"{slug}.fake.localhost"}
        return "http://127.0.0.1:1", {"Host": f"{slug}.fake.localhost"}


class DownRouter(FakeRouter):
    """No verb gets an answer."""

    def check(self) -> RouterInfo:
        raise DependencyDown("The router does not answer.")

    def sync(self, desired: Callable[[], Sequence[Route]]) -> SyncResult:
        raise DependencyDown("The router does not answer.")

    def differences(self, desired: Sequence[Route]) -> SyncResult:
        raise DependencyDown("The router does not answer.")
