"""The contract of ``tenants.runtimes.base.Runtime`` as tests: one suite for every runtime.

A runtime's test module subclasses ``RuntimeContract`` (states only: the fakes) or ``RealAgentContract`` (agents
that really run) and gives a fixture ``bench``, which also removes whatever the test left behind.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.conf import settings

from tenants.runtimes.base import AgentSpec, AgentState, Handle, Observed, Runtime
from zcplatform.lib.errors import Conflict, RunFailed

TINY_AGENT = (Path(__file__).parent / "tiny_agent.py").read_text()
PATIENCE_S = 40


@dataclass
class Stranger:
    """Something that holds an agent's name and is not ours. ``untouched()`` is True while it is as it was."""

    handle: Handle
    untouched: Callable[[], bool]


class MakeSpec(Protocol):
    def __call__(self, behaviour: str = "serve", **changes: Any) -> AgentSpec: ...


@dataclass
class Bench:
    """What a runtime's test module gives: ``again()`` makes a new Runtime object for the same engine, as another
    process would; ``python`` is the interpreter's path as the agent sees it; ``stranger(spec)`` holds its name."""

    runtime: Runtime
    again: Callable[[], Runtime]
    make_spec: MakeSpec
    stranger: Callable[[AgentSpec], AbstractContextManager[Stranger]]
    python: str = ""

    def running(self, behaviour: str = "serve", **changes: Any) -> tuple[AgentSpec, Handle]:
        spec = self.make_spec(behaviour, **changes)
        handle = self.runtime.create(spec)
        self.runtime.start(handle)
        return spec, handle

    def serving(self, **changes: Any) -> tuple[AgentSpec, Handle]:
        spec, handle = self.running(**changes)
        until(lambda: healthy(spec.port))
        return spec, handle

    def code(self, source: str, *arguments: str) -> tuple[str, ...]:
        return (self.python, "-I", "-S", "-c", source, *arguments)


def tiny_spec(runtime: Runtime, behaviour: str = "serve", *, python: str, image: str = "", **changes: Any) -> AgentSpec:
    """A spec for the tiny agent, its folder prepared. Its marker (the tenant's id) stands in its command line."""
    tenant = changes.pop("tenant", None) or str(uuid.uuid4())
    folder = Path(settings.HOME) / "tenants" / tenant
    port = changes.pop("port", None) or free_port()
    uid = changes.pop("uid", None) or random.randint(*settings.UID_RANGE)
    runtime.folders.prepare(folder, uid)
    place = runtime.place(config_dir="/config", data_dir="/data", listen_port=8080, folder=folder, port=port)
    listen = (place.listen_host, str(place.listen_port), tenant)
    spec = AgentSpec(
        instance=settings.INSTANCE,
        tenant=tenant,
        name=f"{settings.CONTAINER_PREFIX}-{tenant[:8]}",
        hostname=tenant,
        kind="tiny",
        run=str(uuid.uuid4()),
        epoch=1,
        slot=0,
        port=port,
        uid=uid,
        image=image,
        argv=(python, "-I", "-S", "-c", TINY_AGENT, behaviour, *listen),
        env=(("GREETING", "hello"),),
        config_dir=str(place.config_dir),
        data_dir=str(place.data_dir),
        listen_port=place.listen_port,
        memory_mb=64,
        cpus=0.5,
        pids=32,
        folder=str(folder),
        config_hash="",
    )
    return replace(spec, **changes)


def free_port() -> int:
    first, last = settings.PORT_RANGE
    while True:
        port = random.randint(first, last)
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def until(condition: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """The first true value of ``condition``; the test fails when there is none within ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError("it did not come true in time")


def get(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def healthy(port: int) -> bool:
    return get(port, "/health") is not None


def alive(marker: str) -> list[int]:
    """The processes of this host, those in containers too, that bear ``marker`` in their command line.

    A launcher that is told about the command (an engine's, say) is not one of them: only an interpreter counts."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"python" in argv[0] and marker.encode() in argv:
            found.append(int(entry.name))
    return found


def together(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act(0) ... act(count - 1)`` return when all begin at the same moment."""
    gate = threading.Barrier(count)

    def one(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


class RuntimeContract:
    """What must hold of every runtime, whether its agents are real or not."""

    @staticmethod
    def state(bench: Bench, handle: Handle) -> AgentState:
        return bench.runtime.inspect(handle).state

    def test_check_tells_kind_and_version(self, bench: Bench) -> None:
        info = bench.runtime.check()
        assert info.kind == bench.runtime.kind
        assert info.version

    def test_ensure_image_and_network_can_be_called_again(self, bench: Bench) -> None:
        spec = bench.make_spec()
        assert bench.runtime.ensure_image(spec.image) == bench.again().ensure_image(spec.image) != ""
        assert bench.runtime.ensure_network(spec.slot) == bench.again().ensure_network(spec.slot) != ""

    def test_a_created_agent_is_described_and_not_started(self, bench: Bench) -> None:
        spec = bench.make_spec()
        handle = bench.runtime.create(spec)
        seen = bench.runtime.inspect(handle)
        assert (seen.state, seen.handle) == (AgentState.CREATED, handle)
        assert (seen.tenant, seen.run, seen.epoch) == (spec.tenant, spec.run, spec.epoch)
        assert (seen.fingerprint, seen.port) == (spec.fingerprint(), spec.port)
        assert (seen.exit_code, seen.oom_killed, seen.restarts, seen.started_at) == (None, False, 0, None)
        assert (handle.runtime, handle.name) == (bench.runtime.kind, spec.name)

    def test_create_again_by_a_later_run_adopts_the_equal_agent(self, bench: Bench) -> None:
        spec = bench.make_spec()
        first = bench.runtime.create(spec)
        later = replace(spec, run=str(uuid.uuid4()), epoch=7)
        assert bench.again().create(later) == first
        assert [seen.handle for seen in bench.runtime.find(spec.tenant)] == [first]

    def test_create_adopts_an_equal_agent_that_runs_and_lets_it_run(self, bench: Bench) -> None:
        spec, handle = bench.running()
        before = bench.runtime.inspect(handle).started_at
        assert bench.runtime.create(replace(spec, run="later", epoch=2)) == handle
        seen = bench.runtime.inspect(handle)
        assert (seen.state, seen.started_at) == (AgentState.RUNNING, before)

    def test_create_adopts_an_equal_agent_that_was_stopped(self, bench: Bench) -> None:
        spec, handle = bench.running()
        bench.runtime.stop(handle, grace_s=2)
        assert bench.runtime.create(spec) == handle
        bench.runtime.start(handle)
        assert self.state(bench, handle) == AgentState.RUNNING

    def test_create_with_another_fingerprint_replaces_even_what_runs(self, bench: Bench) -> None:
        spec, old = bench.running()
        changed = replace(spec, config_hash="another")
        new = bench.runtime.create(changed)
        assert [seen.handle for seen in bench.runtime.find(spec.tenant)] == [new]
        seen = bench.runtime.inspect(new)
        assert (seen.state, seen.fingerprint) == (AgentState.CREATED, changed.fingerprint())
        assert self.state(bench, old) in (AgentState.ABSENT, AgentState.CREATED)

    def test_eight_creates_at_once_make_one_agent(self, bench: Bench) -> None:
        spec = bench.make_spec()
        handles = together(8, lambda n: bench.again().create(replace(spec, run=f"run-{n}", epoch=n)))
        assert len(set(handles)) == 1
        assert [seen.handle for seen in bench.runtime.find(spec.tenant)] == handles[:1]

    def test_starts_at_once_and_again_are_one_start(self, bench: Bench) -> None:
        spec = bench.make_spec()
        handle = bench.runtime.create(spec)
        together(4, lambda _: bench.again().start(handle))
        before = bench.runtime.inspect(handle)
        bench.runtime.start(handle)
        after = bench.runtime.inspect(handle)
        assert (after.state, after.restarts) == (AgentState.RUNNING, 0)
        assert before.started_at == after.started_at is not None

    def test_start_of_what_is_absent_fails_for_good(self, bench: Bench) -> None:
        handle = bench.runtime.create(bench.make_spec())
        bench.runtime.remove(handle)
        with pytest.raises(RunFailed):
            bench.runtime.start(handle)

    def test_a_stopped_agent_is_exited_and_can_be_started_again(self, bench: Bench) -> None:
        _, handle = bench.running()
        bench.runtime.stop(handle, grace_s=2)
        assert self.state(bench, handle) == AgentState.EXITED
        bench.runtime.stop(handle, grace_s=2)
        bench.runtime.start(handle)
        assert self.state(bench, handle) == AgentState.RUNNING

    def test_stop_of_one_never_started_is_success(self, bench: Bench) -> None:
        handle = bench.runtime.create(bench.make_spec())
        bench.runtime.stop(handle)
        assert self.state(bench, handle) == AgentState.CREATED

    def test_remove_takes_a_running_agent_away(self, bench: Bench) -> None:
        spec, handle = bench.running()
        bench.runtime.remove(handle)
        assert self.state(bench, handle) == AgentState.ABSENT
        assert bench.runtime.find(spec.tenant) == []

    def test_verbs_on_what_is_absent(self, bench: Bench) -> None:
        handle = bench.runtime.create(bench.make_spec())
        for _ in range(2):
            bench.runtime.remove(handle)
        bench.runtime.stop(handle)
        assert bench.runtime.inspect(handle) == Observed(handle=handle, tenant="", state=AgentState.ABSENT)
        assert bench.runtime.logs(handle) == ""
        with pytest.raises(Conflict) as refused:
            bench.runtime.exec(handle, ["true"])
        assert refused.value.type == "not_running"

    def test_exec_on_a_stopped_agent_is_a_conflict(self, bench: Bench) -> None:
        _, handle = bench.running()
        bench.runtime.stop(handle, grace_s=2)
        with pytest.raises(Conflict) as refused:
            bench.runtime.exec(handle, ["true"])
        assert refused.value.type == "not_running"

    def test_a_handle_survives_json_and_a_new_runtime(self, bench: Bench) -> None:
        _, handle = bench.running()
        kept = Handle.from_json(json.loads(json.dumps(handle.as_json())))
        other = bench.again()
        assert other.inspect(kept) == bench.runtime.inspect(handle)
        other.stop(kept, grace_s=2)
        assert self.state(bench, handle) == AgentState.EXITED

    def test_measure_tells_of_those_that_run_and_leaves_the_others_out(self, bench: Bench) -> None:
        spec, running = bench.running()
        created = bench.runtime.create(bench.make_spec())
        absent = replace(created, name="absent", id=str(uuid.uuid4()))
        [(found, reading)] = bench.again().measure([running, created, absent]).items()
        assert (found, reading.mem_limit) == (running.id, spec.memory_mb * 1_048_576)
        assert reading.pids >= 1
        assert reading.mem_bytes > 0
        bench.runtime.stop(running, grace_s=2)
        assert bench.runtime.measure([running]) == bench.runtime.measure([]) == {}

    def test_find_and_list_tell_tenants_apart(self, bench: Bench) -> None:
        (one, first), (two, second) = bench.running(), bench.running()
        assert [seen.handle for seen in bench.runtime.find(one.tenant)] == [first]
        assert {first, second} <= {seen.handle for seen in bench.runtime.list()}
        assert {one.tenant, two.tenant} <= {seen.tenant for seen in bench.again().list()}

    def test_a_stranger_with_the_name_is_never_touched(self, bench: Bench) -> None:
        spec = bench.make_spec()
        with bench.stranger(spec) as stranger:
            with pytest.raises(RunFailed) as failed:
                bench.runtime.create(spec)
            assert failed.value.type == "name_conflict"
            bench.runtime.stop(stranger.handle, grace_s=0)
            bench.runtime.remove(stranger.handle)
            assert self.state(bench, stranger.handle) == AgentState.ABSENT
            assert stranger.handle not in [seen.handle for seen in bench.runtime.list()]
            assert bench.runtime.find(spec.tenant) == []
            assert stranger.untouched()

    def test_a_port_taken_by_a_stranger_is_named_and_leaves_nothing_running(self, bench: Bench) -> None:
        spec = bench.make_spec()
        handle = bench.runtime.create(spec)
        with closing(socket.socket()) as stranger:
            # A connection of an earlier test that has just ended may still stand at the port.
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", spec.port))
            stranger.listen()
            with pytest.raises(RunFailed) as failed:
                bench.runtime.start(handle)
            assert failed.value.type == "port_conflict"
            assert AgentState.RUNNING not in [seen.state for seen in bench.runtime.find(spec.tenant)]
            assert alive(spec.tenant) == []
        bench.runtime.start(handle)
        assert self.state(bench, handle) == AgentState.RUNNING


class RealAgentContract(RuntimeContract):
    """The rest: what can be seen only where the agent is a real process."""

    def test_the_agent_answers_on_the_loopback_with_its_own_environment(self, bench: Bench, monkeypatch: Any) -> None:
        monkeypatch.setenv("ZC_CANARY", "of-the-platform")
        spec, _ = bench.serving()
        who = json.loads(get(spec.port, "/who") or b"{}")
        assert who["env"]["GREETING"] == "hello"
        assert "ZC_CANARY" not in who["env"]
        assert not any(name.startswith(("ZCPLATFORM_", "DJANGO_", "PYTEST_")) for name in who["env"])

    def test_the_agent_reads_its_configuration_and_writes_its_data(self, bench: Bench) -> None:
        spec = bench.make_spec()
        bench.runtime.folders.write_config(Path(spec.folder), spec.uid, {"agent.toml": b"name = 'tiny'\n"})
        handle = bench.runtime.create(spec)
        bench.runtime.start(handle)
        source = "import sys; print(open(sys.argv[1]).read()); open(sys.argv[2], 'w').write('kept')"
        paths = (f"{spec.config_dir}/agent.toml", f"{spec.data_dir}/note")
        result = bench.runtime.exec(handle, bench.code(source, *paths))
        assert (result.exit_code, result.output) == (0, "name = 'tiny'\n\n")
        bench.runtime.remove(handle)
        assert (Path(spec.folder) / "data/note").read_text() == "kept"

    def test_logs_hold_both_streams_and_the_last_lines_on_demand(self, bench: Bench) -> None:
        _, handle = bench.serving()
        until(lambda: "line 5" in bench.runtime.logs(handle))
        text = bench.runtime.logs(handle)
        assert "hello from stderr" in text
        assert "caf\ufffd" in text
        assert bench.runtime.logs(handle, tail=2).splitlines() == ["line 4", "line 5"]

    def test_logs_are_followed_from_a_mark_without_gap_or_repetition(self, bench: Bench) -> None:
        _, handle = bench.serving()
        until(lambda: "line 5" in bench.runtime.logs(handle))
        part = bench.runtime.logs_after(handle)
        assert (part.text, bool(part.mark)) == ("", True)
        assert bench.runtime.logs_after(handle, part.mark) == part
        bench.runtime.stop(handle, grace_s=2)
        bench.runtime.start(handle)
        seen, mark = "", part.mark

        def more() -> bool:
            nonlocal seen, mark
            part = bench.again().logs_after(handle, mark)
            seen, mark = seen + part.text, part.mark
            return "line 5\n" in seen

        until(more)
        lines = [line for line in seen.splitlines() if line.startswith("line ")]
        assert lines == [f"line {number}" for number in range(1, 6)]

    def test_each_line_is_told_with_its_time_on_demand(self, bench: Bench) -> None:
        _, handle = bench.serving()
        mark = bench.runtime.logs_after(handle).mark
        until(lambda: "line 5" in bench.runtime.logs(handle))
        told = bench.runtime.logs(handle, times=True)
        plain = bench.runtime.logs(handle)
        parted = [
            re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)", line) for line in told.split("\n")[:-1]
        ]
        assert all(parted)
        assert "".join(f"{line[2]}\n" for line in parted) == plain
        moments = [datetime.fromisoformat(line[1]) for line in parted]
        assert abs((datetime.now(UTC) - moments[-1]).total_seconds()) < 3_600
        assert max(moments) - min(moments) >= timedelta(0)
        bench.runtime.stop(handle, grace_s=2)
        bench.runtime.start(handle)
        until(lambda: "line 5\n" in bench.runtime.logs_after(handle, mark).text)
        part, timed = bench.runtime.logs_after(handle, mark), bench.runtime.logs_after(handle, mark, times=True)
        assert re.sub(r"(?m)^\S+Z ", "", timed.text) == part.text
        assert re.fullmatch(r"(\S{23}Z .*\n)+", timed.text)

    def test_logs_outlive_a_stop(self, bench: Bench) -> None:
        _, handle = bench.serving()
        bench.runtime.stop(handle, grace_s=2)
        assert "line 5" in bench.again().logs(handle)

    def test_exec_passes_argv_without_a_shell_and_gives_the_exit_code(self, bench: Bench) -> None:
        _, handle = bench.serving()
        source = "import sys; print(sys.argv[1:]); sys.stderr.write('and stderr'); sys.exit(4)"
        result = bench.runtime.exec(handle, bench.code(source, "$(id); *", "a b"))
        assert (result.exit_code, result.truncated, result.timed_out) == (4, False, False)
        assert "['$(id); *', 'a b']" in result.output
        assert "and stderr" in result.output

    def test_exec_of_a_program_that_is_not_there(self, bench: Bench) -> None:
        _, handle = bench.serving()
        assert bench.runtime.exec(handle, ["/no/such/program"]).exit_code in (126, 127)

    def test_g3_exec_output_is_capped_and_says_so(self, bench: Bench) -> None:
        _, handle = bench.serving()
        result = bench.runtime.exec(handle, bench.code("print('x' * 300000)"), cap=1000)
        assert (result.output, result.truncated) == ("x" * 1000, True)

    def test_g3_exec_at_its_time_limit_kills_child_and_grandchildren(self, bench: Bench) -> None:
        spec, handle = bench.serving()
        marker = f"exec-{uuid.uuid4()}"
        # A grandchild in a session of its own, which ignores SIGTERM: the hardest to find and to end.
        source = (
            "import os, signal, sys, time\n"
            "print('begun', flush=True)\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "time.sleep(600)"
        )
        result = bench.runtime.exec(handle, bench.code(source, marker), timeout_s=2)
        assert (result.timed_out, result.exit_code, result.output) == (True, None, "begun\n")
        assert until(lambda: not alive(marker))
        assert healthy(spec.port)

    def test_an_agent_that_exits_at_once_is_restarted_counted_and_its_code_seen(self, bench: Bench) -> None:
        spec, handle = bench.running("exit-3")
        until(lambda: bench.runtime.inspect(handle).restarts >= 1)
        until(lambda: bench.runtime.inspect(handle).exit_code == 3)
        bench.runtime.stop(handle, grace_s=1)
        assert self.state(bench, handle) == AgentState.EXITED
        assert alive(spec.tenant) == []

    def test_a_crash_is_mended_by_itself_and_counted(self, bench: Bench) -> None:
        spec, handle = bench.serving()
        get(spec.port, "/exit")
        until(lambda: bench.runtime.inspect(handle).restarts == 1 and healthy(spec.port))
        assert self.state(bench, handle) == AgentState.RUNNING
        bench.runtime.stop(handle, grace_s=2)
        bench.runtime.start(handle)
        assert bench.runtime.inspect(handle).restarts == 0

    def test_what_is_measured_counts_up_within_a_life_and_another_life_has_another_name(self, bench: Bench) -> None:
        spec, handle = bench.serving()
        before = bench.runtime.measure([handle])[handle.id]

        def worked() -> Any:
            for _ in range(50):
                get(spec.port, "/")
            seen = bench.again().measure([handle])[handle.id]
            return seen.cpu_us > before.cpu_us + 20_000 and seen

        after = until(worked)
        assert after.life == before.life
        assert (before.net_in is None) == (after.net_in is None)
        if before.net_in is not None:
            assert after.net_in > before.net_in + 1_000
            assert after.net_out > before.net_out + 1_000
        bench.runtime.stop(handle, grace_s=2)
        bench.runtime.start(handle)
        assert until(lambda: bench.runtime.measure([handle]).get(handle.id)).life != before.life

    def test_an_agent_that_ignores_sigterm_is_killed_after_the_grace(self, bench: Bench) -> None:
        spec, handle = bench.running("stubborn")
        until(lambda: healthy(spec.port))
        bench.runtime.stop(handle, grace_s=1)
        seen = bench.runtime.inspect(handle)
        assert (seen.state, seen.exit_code) == (AgentState.EXITED, 137)
        assert alive(spec.tenant) == []

    def test_a_stop_by_sigterm_leaves_the_agents_own_exit_code(self, bench: Bench) -> None:
        _, handle = bench.serving()
        bench.runtime.stop(handle, grace_s=10)
        assert bench.runtime.inspect(handle).exit_code == 0

    def test_an_agent_that_takes_too_much_memory_is_killed_and_that_is_seen(self, bench: Bench) -> None:
        _, handle = bench.running("leak")
        seen = until(lambda: (o := bench.runtime.inspect(handle)).oom_killed and o)
        assert seen.tenant
        bench.runtime.remove(handle)

    def test_remove_leaves_no_process(self, bench: Bench) -> None:
        spec, handle = bench.running("stubborn")
        until(lambda: healthy(spec.port))
        bench.runtime.remove(handle)
        assert alive(spec.tenant) == []
        assert not healthy(spec.port)
