"""One fault at a time on a platform that runs as an operator starts it: how long until the world is as it should be.

Nothing is mended by hand, and no clock is moved. A fault is over when its own trace is gone and every tenant answers a
chat through Caddy. Targets: docs/faults.md.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep
from typing import Any

import httpx

from tenants.runtimes.docker_engine import Engine
from tests import counterparts
from tests.bench import SHORT, Row, size
from tests.faults.kernel import commands
from tests.zcplatform.serving import children_of, tree_of
from zcplatform.demo import Demo
from zcplatform.lib.errors import Misconfigured

LOOSE = {"mem_limit": "700m", "memswap_limit": "700m"}
TARGET_S, LIMIT_S = 45, 240
WEB = r"zcplatform\.web"
KEEPER = r"shim\.py keep {home}/run/{tenant} $"


@dataclass
class Place:
    """A running demo, seen from outside."""

    demo: Demo
    engine: Engine | None

    @property
    def tenant(self) -> str:
        """The public id of the first tenant, which all faults of agents are done to."""
        return self.row("public_id")

    def row(self, column: str) -> str:
        slug = self.demo.tenants[0]["tenant"]
        with closing(sqlite3.connect(self.demo.home / "zcplatform.db", timeout=30)) as database:
            (value,) = database.execute(f"SELECT {column} FROM tenants WHERE slug = ?", [slug]).fetchone()
        return str(value)

    def keeper(self) -> int:
        return self._one(KEEPER.format(home=re.escape(str(self.demo.home)), tenant=_dashed(self.tenant)))

    def agent(self) -> int:
        """The process that the keeper started; 0 when there is none."""
        return next(iter(children_of(self.keeper())), 0)

    def program(self, words: str) -> int:
        """A child of ``serve`` by its command line; 0 when there is none."""
        assert self.demo.serve is not None
        known = commands()
        return next((pid for pid in children_of(self.demo.serve.pid) if re.search(words, known.get(pid, ""))), 0)

    def container(self) -> dict[str, Any]:
        """What the engine says of the first tenant's container; empty when there is none."""
        assert self.engine is not None
        rows = self._containers()
        with suppress(Exception):
            return dict(self.engine.call("inspect_container", rows[0]["Id"], limit_s=60)) if rows else {}
        return {}

    def well(self) -> bool:
        """Every tenant answers a chat at its own address, and the platform says that it is ready."""
        with httpx.Client(trust_env=False, timeout=2) as client, suppress(httpx.HTTPError):
            if client.get(f"http://127.0.0.1:{self.demo.web}/readyz").status_code != 200:
                return False
            return all(self._chats(client, tenant) for tenant in self.demo.tenants)
        return False

    def _chats(self, client: httpx.Client, tenant: dict[str, Any]) -> bool:
        proxy = self.demo.proxy
        headers = {
            "Host": f"{tenant['tenant']}.localhost:{proxy}",
            "Authorization": f"Bearer {tenant['access_token']}",
        }
        hello = {"messages": [{"role": "user", "content": "Hello"}]}
        url = f"http://127.0.0.1:{proxy}/v1/chat/completions"
        return client.post(url, headers=headers, json=hello).status_code == 200

    def _containers(self) -> list[dict[str, Any]]:
        assert self.engine is not None
        label = f"zcplatform.tenant={_dashed(self.tenant)}"
        return list(self.engine.call("containers", all=True, filters={"label": [label]}, limit_s=60))

    def _one(self, pattern: str) -> int:
        return next((pid for pid, line in commands().items() if re.search(pattern, line)), 0)


@dataclass(frozen=True)
class Fault:
    what: str
    do: Callable[[Place], None]
    """Do it."""
    trace: Callable[[Place], object]
    """What it changes: looked at before; over when it is there and, ``anew``, another."""
    anew: bool = True


def run() -> list[Row]:
    runtimes = ["process", *([] if counterparts.missing("docker") or SHORT else ["docker"])]
    return [row for runtime in runtimes for row in _on(runtime)]


def _on(runtime: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="zcbench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        demo = Demo(runtime, home, lambda _line: None, ports=(0, 0))
        demo.env = {k: v for k, v in demo.env.items() if not k.startswith(("ZC_", "DJANGO_"))}  # not the suite's home
        try:
            demo.up()
            engine = Engine(os.environ.get("ZCPLATFORM_DOCKER_HOST", "unix:///var/run/docker.sock"))
            place = Place(demo, engine if runtime == "docker" else None)
            faults = OF_ALL + (IN_CONTAINERS if runtime == "docker" else AS_PROCESSES)
            for fault in faults[: size(len(faults), 3)]:
                row = _play(place, fault, runtime)
                print(row.what, row.measured, flush=True)
                yield row
        finally:
            demo.down()


def _play(place: Place, fault: Fault, runtime: str) -> Row:
    _wait(place.well)
    before = fault.trace(place)
    if not before:
        raise Misconfigured(f"Nothing to do “{fault.what}” to.", type="bench_failed")
    began = perf_counter()
    fault.do(place)

    def over() -> bool:
        now = fault.trace(place)
        return bool(now) and (now != before if fault.anew else now == before) and place.well()

    took = _wait(over, began)
    return Row(f"{runtime}: {fault.what}", f"{took:.1f} s" if took < LIMIT_S else "NEVER", f"≤ {TARGET_S} s")


def _wait(condition: Callable[[], bool], began: float = 0.0) -> float:
    """Seconds since ``began`` until it holds; LIMIT_S when it never does."""
    began = began or perf_counter()
    while not condition():
        if perf_counter() - began > LIMIT_S:
            return LIMIT_S
        sleep(0.1)
    return perf_counter() - began


def _kill(find: Callable[[Place], int], number: int = signal.SIGKILL) -> Callable[[Place], None]:
    return lambda place: os.kill(find(place), number)


def _child(words: str) -> Callable[[Place], int]:
    return lambda place: place.program(words)


def _web_worker(place: Place) -> int:
    return next(iter(children_of(place.program(WEB))), 0)


def _worker_at_work(place: Place) -> None:
    """Ask for a restart, and kill all workers of runs as soon as it has begun."""
    Thread(target=_restart, args=(place,), daemon=True).start()
    _wait(lambda: place.row("status") != "running")
    for pid in children_of(place.program(r"cluster runs")):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _restart(place: Place) -> None:
    with suppress(Misconfigured):  # the command may lose its patience first
        place.demo.manage("restart", place.demo.tenants[0]["tenant"])


def _everything(place: Place) -> None:
    """End ``serve`` with all that it started, and start it again as an init system does."""
    assert place.demo.serve is not None
    for pid in [place.demo.serve.pid, *tree_of(place.demo.serve.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    place.demo.serve.wait()
    place.demo._serve()


def _wipe_caddy(place: Place) -> None:
    socket = str(place.demo.home / "run" / "caddy.sock")

    def wiped() -> bool:
        """Each change replaces the socket, so it may be gone for a moment."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://caddy") as caddy:
            return caddy.delete("/config/apps/http/servers").is_success

    _wait(lambda: _safely(wiped))


def _safely(act: Callable[[], bool]) -> bool:
    with suppress(httpx.HTTPError):
        return act()
    return False


def _engine(verb: str, **more: Any) -> Callable[[Place], None]:
    def act(place: Place) -> None:
        assert place.engine is not None
        place.engine.call(verb, place.container()["Id"], limit_s=60, **more)

    return act


def _cut_off(place: Place) -> None:
    assert place.engine is not None
    for network in place.container()["NetworkSettings"]["Networks"]:
        place.engine.call("disconnect_container_from_network", place.container()["Id"], network, force=True, limit_s=60)


def _made(place: Place) -> object:
    """Which container it is, and when it was started; nothing unless it runs and has a network."""
    seen = place.container()
    if not seen or not seen["State"]["Running"] or seen["State"]["Paused"] or not seen["NetworkSettings"]["Networks"]:
        return None
    return seen["Id"], seen["State"]["StartedAt"]


def _memory(place: Place) -> object:
    return _made(place) and place.container()["HostConfig"]["Memory"]


def _is_noted(place: Place) -> bool:
    return (place.demo.home / "run" / _dashed(place.tenant) / "state.json").exists()


def _forget(place: Place) -> None:
    (place.demo.home / "run" / _dashed(place.tenant) / "state.json").unlink()


def _is_running(place: Place) -> bool:
    return place.row("status") == "running"


def _dashed(public_id: str) -> str:
    """SQLite keeps a UUID as 32 digits."""
    digits = public_id.replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


OF_ALL = (
    Fault("a web worker killed", _kill(_web_worker), _web_worker),
    Fault("the web's first process killed", _kill(_child(WEB)), _child(WEB)),
    Fault("Caddy killed", _kill(_child("caddy")), _child("caddy")),
    Fault("Caddy's routes wiped", _wipe_caddy, lambda _place: True, anew=False),
    Fault("the workers of runs killed", _kill(_child("cluster runs")), _child("cluster runs")),
    Fault("the workers of sweeps killed", _kill(_child("cluster sweeps")), _child("cluster sweeps")),
    Fault("a worker killed in a restart", _worker_at_work, _is_running, anew=False),
    Fault("everything killed, and started again", _everything, _child(WEB)),
)
AS_PROCESSES = (
    Fault("an agent killed", _kill(Place.agent), Place.agent),
    Fault("an agent's keeper killed", _kill(Place.keeper), Place.keeper),
    Fault("an agent's record lost", _forget, _is_noted, anew=False),
)
IN_CONTAINERS = (
    Fault("an agent paused", _engine("pause"), lambda place: bool(_made(place)), anew=False),
    Fault("an agent killed", _engine("kill"), _made),
    Fault("an agent removed", _engine("remove_container", force=True), _made),
    Fault("an agent cut off its network", _cut_off, _made),
    Fault("an agent given more memory", _engine("update_container", **LOOSE), _memory, anew=False),
)
