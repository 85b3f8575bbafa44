"""What runs on the process runtime and no note tells: found by keeper, uid and mark, and ended. Nobody else's is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tenants.runtimes import kill_script, rundir, shim_tree, traces
from tenants.runtimes.base import AgentState
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_engine import Engine
from tests.tenants.runtimes.contract import Bench, alive, healthy, until
from tests.tenants.runtimes.docker_bench import DEMO, PYTHON
from tests.tenants.runtimes.test_process import SYSTEM_PYTHON, bench_in, cleaned, family, needs_root, run_dir

WAIT = "import time; time.sleep(600)"
LOSSES = ["state", "spec", "folder", "folder and lock"]


def lose(settings, handle, what: str) -> None:
    folder = run_dir(settings, handle)
    if what in ("state", "spec"):
        (folder / f"{what}.json").unlink()
        return
    shutil.rmtree(folder)
    if "lock" in what:
        folder.with_suffix(".lock").unlink()


@contextmanager
def made(settings, python: str):
    """A bench in a home that every uid may pass through where agents have a uid of their own."""
    home = Path(tempfile.mkdtemp(prefix="zct-home-", dir="/tmp"))
    home.chmod(0o711)
    settings.ALLOW_UNPRIVILEGED_PROCESS = python != SYSTEM_PYTHON
    if settings.ALLOW_UNPRIVILEGED_PROCESS:
        home.chmod(0o700)
    with cleaned(bench_in(home, settings, python)) as bench:
        yield bench
    shutil.rmtree(home)


@pytest.fixture
def dropping(monkeypatch, settings):
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    with made(settings, SYSTEM_PYTHON) as bench:
        yield bench


@pytest.fixture(params=["caller", pytest.param("tenant", marks=[pytest.mark.root, needs_root])])
def bench(request, settings):
    if request.param == "tenant":
        return request.getfixturevalue("dropping")
    return request.getfixturevalue("sharing")


@pytest.fixture
def sharing(settings):
    with made(settings, sys.executable) as bench:
        yield bench


def seen(bench: Bench, spec) -> set[str]:
    return {stray.what for stray in bench.again().strays({spec.uid: spec.tenant}) if stray.tenant == spec.tenant}


@contextmanager
def orphans(bench: Bench, settings, loss: str = "folder"):
    """What is left of a family when its keeper was killed and its record is gone."""
    spec, handle = family(bench)
    before = set(alive(spec.tenant))
    os.kill(rundir.RunDir(spec.tenant).state()["shim"][0], signal.SIGKILL)
    left = until(lambda: (now := set(alive(spec.tenant))) < before and now)
    lose(settings, handle, loss)
    try:
        yield spec, handle, left
    finally:
        for pid in alive(spec.tenant):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_what_is_accounted_for_is_no_stray(bench):
    spec, handle = family(bench)
    assert seen(bench, spec) == set()
    assert bench.runtime.end_strays(spec.tenant, spec.uid) == []
    assert len(alive(spec.tenant)) == 3
    bench.runtime.stop(handle)
    assert seen(bench, spec) == set()


@pytest.mark.parametrize("loss", LOSSES)
def test_an_agent_whose_record_is_lost_is_told_and_ended(bench, settings, loss):
    spec, handle = family(bench)
    keeper = rundir.RunDir(spec.tenant).state()["shim"][0]
    lose(settings, handle, loss)
    if loss != "spec":
        assert seen(bench, spec) == {f"keeper {keeper}"}
        assert [stray.what for stray in bench.runtime.end_strays(spec.tenant, spec.uid)] == [f"keeper {keeper}"]
    else:
        bench.runtime.create(spec)
        bench.runtime.remove(handle)
    assert alive(spec.tenant) == []
    assert shim_tree.start_time(keeper) is None


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_after_the_record_was_lost_leaves_one_agent(bench, settings, loss):
    spec, handle = family(bench)
    before = set(alive(spec.tenant))
    lose(settings, handle, loss)
    assert bench.runtime.create(spec) == handle
    bench.runtime.start(handle)
    until(lambda: len(alive(spec.tenant)) == 3)
    if loss != "spec":
        assert not before & set(alive(spec.tenant))
    assert seen(bench, spec) == set()


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_stop_and_remove_end_what_the_state_no_longer_names(bench, settings, verb):
    spec, handle = family(bench)
    lose(settings, handle, "state")
    getattr(bench.runtime, verb)(handle)
    assert alive(spec.tenant) == []


def test_of_two_keepers_of_one_tenant_the_noted_one_stays(bench, settings):
    """As a version left them that believed its notes alone."""
    spec, handle = family(bench)
    first = set(alive(spec.tenant))
    lose(settings, handle, "folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "end", lambda *_, **__: [])
        bench.runtime.create(spec)
        bench.runtime.start(handle)
    until(lambda: len(alive(spec.tenant)) == 6)
    [stray] = seen(bench, spec)
    assert [found.what for found in bench.runtime.end_strays(spec.tenant, spec.uid)] == [stray]
    assert len(alive(spec.tenant)) == 3
    assert not first & set(alive(spec.tenant))
    assert bench.runtime.inspect(handle).state == AgentState.RUNNING


def test_what_a_killed_keeper_left_is_found_without_any_record(bench, settings):
    with orphans(bench, settings, "folder and lock") as (spec, _, left):
        assert seen(bench, spec) == {f"process {pid}" for pid in left}
        assert len(bench.runtime.end_strays(spec.tenant, spec.uid)) == len(left)
        assert alive(spec.tenant) == []
        assert bench.runtime.end_strays(spec.tenant, spec.uid) == []


HARE = """
import os, sys, time
if os.fork(): time.sleep(600)
os.setsid()
while True:
    if os.fork(): os._exit(0)
    time.sleep(0.002)
"""


@needs_root
@pytest.mark.root
def test_what_forks_and_ends_without_pause_is_ended(dropping, settings):
    spec = dropping.make_spec()
    spec = replace(spec, argv=(SYSTEM_PYTHON, "-I", "-S", "-c", HARE, spec.tenant))
    handle = dropping.runtime.create(spec)
    dropping.runtime.start(handle)
    until(lambda: len(alive(spec.tenant)) >= 2)
    os.kill(rundir.RunDir(spec.tenant).state()["shim"][0], signal.SIGKILL)
    lose(settings, handle, "folder")
    dropping.runtime.end_strays(spec.tenant, spec.uid)
    assert [pid for pid in alive(spec.tenant) if shim_tree.start_time(pid)] == []


STOPS_ALL = """
import os, signal
os.setsid()
print("ready", flush=True)
while True:
    os.kill(-1, signal.SIGSTOP)
"""


@needs_root
@pytest.mark.root
def test_an_agent_that_stops_whoever_has_its_uid_does_not_hold_up_its_own_end(dropping):
    spec = dropping.make_spec()
    argv = [SYSTEM_PYTHON, "-I", "-S", "-c", STOPS_ALL]
    for _ in range(10):
        with subprocess.Popen(argv, user=spec.uid, group=spec.uid, extra_groups=[], stdout=subprocess.PIPE) as hostile:
            assert hostile.stdout.readline() == b"ready\n"
            ending = threading.Thread(target=traces._end_uid, args=(spec.uid, spec.tenant), daemon=True)
            ending.start()
            ending.join(30)
            held_up = ending.is_alive()
            hostile.kill()
            for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()] if held_up else []:
                if traces._uid(pid) == spec.uid:
                    os.kill(pid, signal.SIGKILL)
            assert not held_up
            assert hostile.wait(10) == -signal.SIGKILL


def test_a_command_beside_the_agent_is_no_stray_until_the_agent_is_gone(bench, settings):
    spec, handle = bench.serving()
    marker = f"beside-{spec.tenant}"
    runner = os.fork()
    if runner == 0:
        with suppress(BaseException):
            bench.runtime.exec(handle, bench.code("import time; time.sleep(600)", marker), timeout_s=500)
        os._exit(0)
    until(lambda: alive(marker))
    assert seen(bench, spec) == set()
    bench.runtime.remove(handle)
    assert alive(marker) == []
    os.waitpid(runner, 0)


@needs_root
@pytest.mark.root
def test_another_installation_with_the_same_uids_is_left_alone(settings, monkeypatch):
    """Agents below its keepers are its own, whatever their uid."""
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    settings.ALLOW_UNPRIVILEGED_PROCESS = False
    homes = [Path(tempfile.mkdtemp(prefix="zct-home-", dir="/tmp")) for _ in range(2)]
    for home in homes:
        home.chmod(0o711)
    with cleaned(bench_in(homes[0], settings, SYSTEM_PYTHON)) as theirs:
        other, _ = theirs.serving()
        ours = bench_in(homes[1], settings, SYSTEM_PYTHON)
        spec = ours.make_spec(uid=other.uid)
        assert list(ours.runtime.strays({spec.uid: spec.tenant})) == []
        assert ours.runtime.end_strays(spec.tenant, spec.uid) == []
        assert healthy(other.port)
        settings.HOME = homes[0]
    for home in homes:
        shutil.rmtree(home)


@needs_root
@pytest.mark.root
@pytest.mark.docker
def test_a_container_with_the_same_uid_is_left_alone(dropping, settings):
    spec = dropping.make_spec()
    engine, image = Engine(settings.DOCKER_HOST), DockerRuntime().ensure_image(DEMO)
    made = engine.call(
        "create_container_from_config",
        {"Image": image, "Entrypoint": [PYTHON, "-c", WAIT], "User": f"{spec.uid}:{spec.uid}"},
        f"{settings.CONTAINER_PREFIX}-{spec.tenant[:8]}-foreign",
        limit_s=60,
    )
    try:
        engine.call("start", made["Id"], limit_s=60)
        pid = engine.call("inspect_container", made["Id"])["State"]["Pid"]
        assert traces._uid(pid) == spec.uid
        assert list(dropping.runtime.strays({spec.uid: spec.tenant})) == []
        assert dropping.runtime.end_strays(spec.tenant, spec.uid) == []
        assert engine.call("inspect_container", made["Id"])["State"]["Running"]
    finally:
        engine.call("remove_container", made["Id"], force=True, limit_s=60)


@needs_root
@pytest.mark.root
def test_a_process_without_its_environment_and_hidden_from_others_is_found_by_its_uid(dropping, settings):
    """Not dumpable: what /proc shows of it belongs to root."""
    spec, _ = dropping.serving()
    source = (
        "import ctypes, os, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "os.setsid(); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [SYSTEM_PYTHON, "-I", "-S", "-c", source], user=spec.uid, group=spec.uid, env={}, stdout=subprocess.PIPE
    ) as hidden:
        assert hidden.stdout.readline() == b"ready\n"
        assert seen(dropping, spec) == {f"process {hidden.pid}"}
        dropping.runtime.end_strays(spec.tenant, spec.uid)
        assert hidden.wait(10) == -signal.SIGKILL
    assert healthy(spec.port)


HEADLESS = """
import ctypes, os, sys, threading
kept = bytearray(b"x" * 40_000_000)
threading.Thread(target=threading.Event().wait).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


@contextmanager
def headless(**how):
    """A process whose first thread has ended: the kernel shows it as a zombie, and its other threads run."""
    argv = [SYSTEM_PYTHON, "-I", "-S", "-c", HEADLESS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, **how) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            until(lambda: shim_tree.stat_fields(process.pid)[0] == b"Z")
            yield process
        finally:
            process.kill()


def test_what_runs_without_its_first_thread_is_seen_and_weighed():
    with headless() as process:
        assert shim_tree.start_time(process.pid) is not None
        assert process.pid in shim_tree.descendants(os.getpid())
        assert shim_tree.resident(process.pid) > 40_000_000
        assert shim_tree.proportional(process.pid) > 40_000_000
        process.kill()
        until(lambda: shim_tree.start_time(process.pid) is None)


@needs_root
@pytest.mark.root
def test_an_agent_without_its_first_thread_is_told_and_ended(dropping):
    spec = dropping.make_spec()
    with headless(user=spec.uid, group=spec.uid, extra_groups=[]) as process:
        assert seen(dropping, spec) == {f"process {process.pid}"}
        dropping.runtime.end_strays(spec.tenant, spec.uid)
        assert process.wait(10) == -signal.SIGKILL


def test_without_a_uid_of_its_own_it_is_known_by_its_mark(sharing, settings):
    spec = sharing.make_spec()
    with headless(env={shim_tree.MARK: str(Path(settings.HOME) / "run" / spec.tenant)}) as process:
        assert seen(sharing, spec) == {f"process {process.pid}"}
        sharing.runtime.end_strays(spec.tenant, spec.uid)
        assert process.wait(10) == -signal.SIGKILL


def test_a_family_is_killed_with_those_that_have_no_first_thread():
    with headless(env={"MARK": "headless"}) as process:
        assert kill_script.kill_family("MARK=headless") == (1, True)
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("state", [{}, {"shim": None, "strays": []}, {"shim": [1], "strays": []}, {"boot": 1}, []])
def test_a_note_that_makes_no_sense_is_none(sharing, settings, state):
    spec, handle = sharing.serving()
    note = run_dir(settings, handle) / "state.json"
    whole = note.read_text()
    note.write_text(json.dumps({"boot": shim_tree.boot_id(), **state} if isinstance(state, dict) else state))
    assert {stray.split()[0] for stray in seen(sharing, spec)} == {"keeper"}, "the world tells instead"
    note.write_text(whole)
