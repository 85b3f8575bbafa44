"""The process runtime: the contract with the caller's uid, with the tenant's, and as an ordinary user; then what is
its own: kills, reboots, reused pids, limits, logs."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tenants.runtimes import process, rundir, shim_tree
from tenants.runtimes.base import AgentState, Handle
from tenants.runtimes.process import ProcessRuntime
from tests.tenants.runtimes.contract import Bench, RealAgentContract, Stranger, alive, get, healthy, tiny_spec, until
from zcplatform.lib.errors import Conflict, DependencyDown, Misconfigured, RunFailed

SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65_534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SYSTEM_PYTHON).exists(), reason="needs root and an interpreter that all may run"
)


def bench_in(home: Path, settings, python: str) -> Bench:
    settings.HOME = home
    runtime = ProcessRuntime()

    @contextmanager
    def stranger(spec):
        handle = ProcessRuntime().create(replace(spec, instance="another0"))
        kept = home / "run" / spec.tenant / "spec.json"
        before = kept.read_bytes()
        yield Stranger(handle=handle, untouched=lambda: kept.read_bytes() == before)

    return Bench(
        runtime=runtime,
        again=ProcessRuntime,
        make_spec=lambda behaviour="serve", **changes: tiny_spec(runtime, behaviour, python=python, **changes),
        stranger=stranger,
        python=python,
    )


@contextmanager
def cleaned(bench: Bench):
    try:
        yield bench
    finally:
        for seen in bench.runtime.list():
            bench.runtime.remove(seen.handle)


@pytest.fixture
def open_home():
    """A home that every uid may pass through, as ``bootstrap`` makes it where agents have their own."""
    home = Path(tempfile.mkdtemp(prefix="zct-home-", dir="/tmp"))
    home.chmod(0o711)
    yield home
    shutil.rmtree(home)


@pytest.fixture
def bench(tmp_path, settings):
    settings.ALLOW_UNPRIVILEGED_PROCESS = True
    with cleaned(bench_in(tmp_path, settings, sys.executable)) as bench:
        yield bench


@pytest.fixture
def dropping(open_home, settings, monkeypatch):
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    settings.ALLOW_UNPRIVILEGED_PROCESS = False
    with cleaned(bench_in(open_home, settings, SYSTEM_PYTHON)) as bench:
        yield bench


def run_dir(settings, handle: Handle) -> Path:
    return settings.HOME / "run" / handle.id


def who(port: int) -> dict:
    return json.loads(get(port, "/who") or b"{}")


class TestCallersUid(RealAgentContract):
    """The contract where agents keep the caller's uid."""


@needs_root
@pytest.mark.root
class TestTenantsUid(RealAgentContract):
    """The contract where agents drop to the tenant's uid, and what that uid is good for."""

    @pytest.fixture
    def bench(self, dropping):
        return dropping

    @pytest.fixture
    def groups_of_ours(self):
        before = os.getgroups()
        os.setgroups([0, 4])
        yield
        os.setgroups(before)

    def test_the_agent_and_exec_run_as_the_tenant_alone_in_its_data(self, bench, groups_of_ours):
        spec, handle = bench.serving()
        seen = who(spec.port)
        assert (seen["uid"], seen["gid"], seen["groups"]) == (spec.uid, spec.uid, [])
        assert seen["cwd"] == f"{spec.folder}/data"
        assert seen["env"].keys() - {"LC_CTYPE"} == {"PATH", "GREETING"}
        result = bench.runtime.exec(handle, bench.code("import os; print(os.getuid(), os.getgroups(), os.getcwd())"))
        assert result.output == f"{spec.uid} [] {spec.folder}/data\n"

    def test_check_says_that_agents_have_a_uid_of_their_own(self, bench):
        own = {"agents_run_as": "tenant", "allowed": True, "closed": [], "why": "", "todo": ""}
        assert bench.runtime.check().detail == own

    def test_one_tenant_can_not_read_another_nor_the_platform(self, bench, settings):
        (other, _), (_, handle) = bench.serving(), bench.serving()
        for folder in (
            f"{other.folder}/data",
            f"{other.folder}/config",
            f"{settings.HOME}/run",
            f"{other.folder}/logs",
        ):
            result = bench.runtime.exec(handle, bench.code("import os, sys; os.listdir(sys.argv[1])", folder))
            assert "PermissionError" in result.output

    def test_the_tenant_can_not_signal_its_keeper(self, bench, settings):
        _, handle = bench.serving()
        keeper = json.loads((run_dir(settings, handle) / "state.json").read_text())["shim"][0]
        result = bench.runtime.exec(handle, bench.code("import os, sys; os.kill(int(sys.argv[1]), 9)", str(keeper)))
        assert "PermissionError" in result.output
        assert bench.runtime.inspect(handle).state == AgentState.RUNNING

    @pytest.mark.parametrize("what", ["program", "argument", "home"])
    def test_a_path_that_the_uid_can_not_pass_is_named(self, bench, open_home, what):
        closed = open_home / "closed"
        closed.mkdir(mode=0o700)
        spec = bench.make_spec()
        if what == "program":
            (closed / "python").symlink_to(SYSTEM_PYTHON)
            spec = replace(spec, argv=(str(closed / "python"), *spec.argv[1:]))
        elif what == "argument":
            (closed / "agent.py").write_text("")
            spec = replace(spec, argv=(SYSTEM_PYTHON, str(closed / "agent.py")))
        else:
            closed = open_home
            open_home.chmod(0o700)
        handle = bench.runtime.create(spec)
        with pytest.raises(RunFailed) as failed:
            bench.runtime.start(handle)
        assert (failed.value.type, failed.value.details["path"]) == ("folder_unreachable", str(closed))
        assert bench.runtime.inspect(handle).state == AgentState.CREATED
        assert alive(spec.tenant) == []
        assert what != "home" or bench.runtime.check().detail["agents_run_as"] == "caller"

    def test_where_allowed_the_callers_uid_is_kept_and_check_says_so(self, bench, open_home, settings):
        settings.ALLOW_UNPRIVILEGED_PROCESS = True
        open_home.chmod(0o700)
        spec, handle = bench.serving()
        assert who(spec.port)["uid"] == 0
        assert bench.runtime.exec(handle, bench.code("import os; print(os.getuid())")).output == "0\n"
        told = bench.runtime.check().detail
        assert (told["agents_run_as"], told["allowed"], told["closed"]) == ("caller", True, [str(open_home)])
        assert bench.runtime.deviations(spec, handle) == []

    def test_a_program_that_is_closed_to_one_agent_alone_makes_no_difference_to_another(
        self, bench, open_home, settings
    ):
        """Who decides and who looks afterwards say the same of each."""
        settings.ALLOW_UNPRIVILEGED_PROCESS = True
        (open_home / "closed").mkdir(mode=0o700)
        shutil.copy(SYSTEM_PYTHON, open_home / "closed" / "python")
        plain, at_plain = bench.serving()
        spec = bench.make_spec()
        spec = replace(spec, argv=(str(open_home / "closed" / "python"), *spec.argv[1:]))
        at_closed = bench.runtime.create(spec)
        bench.runtime.start(at_closed)
        uids = [
            bench.runtime.exec(at, bench.code("import os; print(os.getuid())")).output for at in (at_plain, at_closed)
        ]
        assert uids == [f"{plain.uid}\n", "0\n"]
        assert [bench.runtime.deviations(s, h) for s, h in ((plain, at_plain), (spec, at_closed))] == [[], []]

    def test_all_that_is_closed_is_named_at_once_and_by_everybody_alike(self, bench, open_home, settings):
        inner = open_home / "a" / "b c"
        (inner / "tenants").mkdir(parents=True)
        for folder in (open_home / "a", inner):
            folder.chmod(0o700)
        settings.HOME = inner
        spec = bench.make_spec()
        handle = bench.runtime.create(spec)
        with pytest.raises(RunFailed) as failed:
            bench.runtime.start(handle)
        told = bench.runtime.check().detail
        assert told["closed"] == [str(open_home / "a"), str(inner)]
        assert failed.value.details["path"] == told["closed"][0]
        assert told["why"] in failed.value.message and told["todo"] in failed.value.message
        subprocess.run(shlex.split(told["todo"].partition(": ")[2]), check=True)  # as it stands there
        assert bench.runtime.check().detail["agents_run_as"] == "tenant"
        bench.runtime.start(handle)
        uid = bench.runtime.exec(handle, bench.code("import os; print(os.getuid())")).output
        assert uid == f"{spec.uid}\n"


class TestOrdinaryUser:
    """Without root: a forked child gives up root and goes through the contract as nobody."""

    WHOLE = (
        "test_create_with_another_fingerprint_replaces_even_what_runs",
        "test_eight_creates_at_once_make_one_agent",
        "test_starts_at_once_and_again_are_one_start",
        "test_a_port_taken_by_a_stranger_is_named_and_leaves_nothing_running",
        "test_the_agent_reads_its_configuration_and_writes_its_data",
        "test_logs_hold_both_streams_and_the_last_lines_on_demand",
        "test_exec_passes_argv_without_a_shell_and_gives_the_exit_code",
        "test_a_crash_is_mended_by_itself_and_counted",
        "test_remove_leaves_no_process",
    )

    @staticmethod
    def as_nobody(act) -> None:
        """Run ``act`` in a child without root; its failure is the test's."""
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                act()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @pytest.fixture
    def bench(self, open_home, settings, monkeypatch):
        os.chown(open_home, NOBODY, NOBODY)
        # The suite may have been cloned to where nobody else can read; an installation for an ordinary user is not.
        for name in ("shim.py", "shim_tree.py"):
            shutil.copy(process.SHIM.with_name(name), open_home / name)
        monkeypatch.setattr(process, "SHIM", open_home / "shim.py")
        monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
        return bench_in(open_home, settings, SYSTEM_PYTHON)

    @needs_root
    @pytest.mark.root
    def test_the_contract_and_the_callers_uid(self, bench, settings):
        settings.ALLOW_UNPRIVILEGED_PROCESS = True

        def act():
            with cleaned(bench):
                spec, _ = bench.serving()
                assert who(spec.port)["uid"] == NOBODY
                assert Path(spec.folder).stat().st_uid == NOBODY
                for name in self.WHOLE:
                    getattr(RealAgentContract(), name)(bench)

        self.as_nobody(act)

    @needs_root
    @pytest.mark.root
    def test_in_production_it_is_refused_by_name(self, bench, settings):
        settings.ALLOW_UNPRIVILEGED_PROCESS = False

        def act():
            spec = bench.make_spec()
            for verb in (lambda: bench.runtime.create(spec), lambda: bench.runtime.start(Handle("process", "", "x"))):
                with pytest.raises(Misconfigured) as refused:
                    verb()
                assert refused.value.type == "unprivileged_process"
            assert bench.runtime.check().detail["allowed"] is False
            assert bench.runtime.list() == []

        self.as_nobody(act)


# --- kills, reboots, reused pids ---------------------------------------------------------------------------

FAMILY = """
import os, sys, time
for leave in (False, True):
    if os.fork() == 0:
        if leave:
            os.setsid()
            os.fork() and os._exit(0)
        time.sleep(600)
time.sleep(600)
"""


def family(bench: Bench, **changes):
    """An agent with a child in its session and a daemon that left it; returns when the keeper knows all three."""
    spec = bench.make_spec()
    spec = replace(spec, argv=(bench.python, "-I", "-S", "-c", FAMILY, spec.tenant), **changes)
    handle = bench.runtime.create(spec)
    bench.runtime.start(handle)
    until(lambda: len(alive(spec.tenant)) == 3 and rundir.RunDir(spec.tenant).state()["strays"])
    return spec, handle


def test_an_agent_outlives_the_worker_that_started_it(bench):
    spec = bench.make_spec()
    handle = bench.runtime.create(spec)
    worker = os.fork()
    if worker == 0:
        ProcessRuntime().start(handle)
        os._exit(0)
    os.waitpid(worker, 0)
    until(lambda: healthy(spec.port))
    assert bench.runtime.inspect(handle).state == AgentState.RUNNING


def test_when_the_keeper_is_killed_the_agent_dies_and_the_next_start_clears_the_rest(bench):
    spec, handle = family(bench)
    before = set(alive(spec.tenant))
    keeper = rundir.RunDir(spec.tenant).state()["shim"][0]
    os.kill(keeper, signal.SIGKILL)
    left = until(lambda: (now := set(alive(spec.tenant))) < before and now)
    assert len(left) == 2
    assert bench.again().inspect(handle).state == AgentState.EXITED
    bench.runtime.start(handle)
    until(lambda: len(alive(spec.tenant)) == 3)
    assert not before & set(alive(spec.tenant))


def test_remove_clears_what_a_killed_keeper_left(bench):
    spec, handle = family(bench)
    os.kill(rundir.RunDir(spec.tenant).state()["shim"][0], signal.SIGKILL)
    bench.runtime.remove(handle)
    assert alive(spec.tenant) == []


def test_stop_ends_even_what_left_the_session(bench):
    spec, handle = family(bench)
    bench.runtime.stop(handle, grace_s=5)
    assert alive(spec.tenant) == []


def test_g3_exec_ends_even_a_daemon(bench):
    _, handle = bench.serving()
    result = bench.runtime.exec(handle, bench.code(FAMILY, "exec-daemon"), timeout_s=1)
    assert result.timed_out
    assert alive("exec-daemon") == []


def test_a_keeper_that_hangs_is_killed_with_its_agent(bench, monkeypatch):
    monkeypatch.setattr(shim_tree, "KILL_S", 0)
    spec, handle = family(bench)
    os.kill(rundir.RunDir(spec.tenant).state()["shim"][0], signal.SIGSTOP)
    bench.runtime.stop(handle, grace_s=0)
    monkeypatch.undo()
    bench.runtime.stop(handle)
    assert alive(spec.tenant) == []
    assert bench.runtime.inspect(handle).state == AgentState.EXITED


@pytest.fixture
def innocent():
    """A process of somebody else whose pid an agent's keeper once had."""
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield other
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_signal_goes_to_the_very_process_or_to_none(innocent):
    start = shim_tree.start_time(innocent.pid)
    assert rundir.send(innocent.pid, start, signal.SIGCONT)
    assert not rundir.send(innocent.pid, start - 1, signal.SIGKILL)
    assert not rundir.send(innocent.pid, None, signal.SIGKILL)


@pytest.mark.parametrize("reused", ["start time", "boot"])
def test_a_reused_pid_is_neither_adopted_nor_killed(bench, innocent, reused):
    spec, handle = bench.running()
    bench.runtime.stop(handle, grace_s=2)
    run, start = rundir.RunDir(spec.tenant), shim_tree.start_time(innocent.pid)
    pair = [innocent.pid, start - 1 if reused == "start time" else start]
    boot = shim_tree.boot_id() if reused == "start time" else "another"
    state = run.state() | {"phase": "running", "shim": pair, "strays": [pair], "boot": boot}
    (run.path / "state.json").write_text(json.dumps(state))
    assert bench.runtime.inspect(handle).state == AgentState.EXITED
    with pytest.raises(Conflict):
        bench.runtime.exec(handle, ["true"])
    bench.runtime.stop(handle, grace_s=0)
    bench.runtime.start(handle)
    until(lambda: healthy(spec.port))
    keeper = run.state()["shim"][0]
    (run.path / "state.json").write_text(json.dumps(state))
    bench.runtime.remove(handle)
    assert shim_tree.start_time(keeper) is None, "its state was taken away, and it is ended all the same"


def test_r17_after_a_reboot_the_agent_has_exited_and_can_be_started(bench, monkeypatch):
    spec, handle = bench.running()
    bench.runtime.stop(handle, grace_s=2)
    run = rundir.RunDir(spec.tenant)
    (run.path / "state.json").write_text(json.dumps(run.state() | {"phase": "running", "boot": "the one before"}))
    assert [seen.state for seen in bench.runtime.list()] == [AgentState.EXITED]
    bench.runtime.start(handle)
    assert bench.runtime.inspect(handle).state == AgentState.RUNNING


def test_a_second_keeper_gives_way_to_the_first(bench, monkeypatch):
    spec, handle = family(bench)
    before = alive(spec.tenant)
    monkeypatch.setattr(process, "alive", lambda _state: False)
    bench.runtime.start(handle)
    assert alive(spec.tenant) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot'])
def test_a_create_that_was_killed_half_way_is_completed(bench, settings, text):
    spec = bench.make_spec()
    folder = settings.HOME / "run" / spec.tenant
    folder.mkdir(parents=True)
    (folder / "spec.json.tmp").write_text(text)
    (folder / "state.json").write_text(text)
    assert bench.runtime.find(spec.tenant) == []
    handle = bench.runtime.create(spec)
    assert bench.runtime.inspect(handle).state == AgentState.CREATED


def test_a_handle_that_is_no_uuid_never_becomes_a_path(bench):
    for name in ("..", "../../etc", "", "a" * 36):
        with pytest.raises(RunFailed):
            bench.runtime.remove(Handle("process", "x", name))


def test_a_full_disk_waits(bench, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space")

    spec = bench.make_spec()
    monkeypatch.setattr(rundir.os, "fsync", full)
    with pytest.raises(DependencyDown) as failed:
        bench.runtime.create(spec)
    assert failed.value.type == "storage_full"


def test_no_agent_runs_when_its_state_can_not_be_written(bench, settings):
    spec = bench.make_spec()
    handle = bench.runtime.create(spec)
    (run_dir(settings, handle) / "state.json.tmp").mkdir()
    with pytest.raises(DependencyDown):
        bench.runtime.start(handle)
    assert alive(spec.tenant) == []


# --- limits and logs ---------------------------------------------------------------------------------------


def test_the_agent_has_no_new_privileges_no_core_a_group_and_a_session_of_its_own(bench):
    spec, handle = bench.serving()
    [pid] = alive(spec.tenant)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    assert any(line.split()[:6] == ["Max", "core", "file", "size", "0", "0"] for line in limits.splitlines())
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == rundir.RunDir(handle.id).state()["shim"][0] != os.getsid(0)
    assert not [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if str(fd.readlink()).startswith(spec.folder[:20])]


def test_too_many_processes_are_killed_and_the_log_says_why(bench):
    bomb = "import os, time\nfor _ in range(30):\n    os.fork() or time.sleep(600)\ntime.sleep(600)"
    spec = bench.make_spec()
    spec = replace(spec, argv=(bench.python, "-I", "-S", "-c", bomb, spec.tenant), pids=8)
    handle = bench.runtime.create(spec)
    bench.runtime.start(handle)
    until(lambda: "over the limit of 8 processes" in bench.runtime.logs(handle))
    until(lambda: bench.runtime.inspect(handle).exit_code == 137)


def test_logs_are_capped_and_read_across_their_files(bench, settings):
    settings.LOG_MAX_SIZE, settings.LOG_MAX_FILES = "30k", 3
    chatter = "for n in range(5000): print('number', n, flush=n % 100 == 0)\nimport time; time.sleep(600)"
    spec = bench.make_spec()
    spec = replace(spec, argv=(bench.python, "-I", "-S", "-u", "-c", chatter, spec.tenant))
    handle = bench.runtime.create(spec)
    bench.runtime.start(handle)
    until(lambda: bench.runtime.logs(handle, tail=1) == "number 4999\n")
    sizes = [path.stat().st_size for path in run_dir(settings, handle).glob("log*")]
    assert len(sizes) == 3
    assert max(sizes) <= 30_720
    lines = bench.runtime.logs(handle, tail=1000).splitlines()
    assert lines == [f"number {n}" for n in range(4000, 5000)]
    assert bench.runtime.logs(handle, tail=0) == ""


def test_a_program_that_is_not_there_is_named(bench):
    handle = bench.runtime.create(replace(bench.make_spec(), argv=("/no/such/program",)))
    with pytest.raises(RunFailed) as failed:
        bench.runtime.start(handle)
    assert (failed.value.type, failed.value.details["path"]) == ("image_missing", "/no/such/program")


def test_a_program_that_is_searched_for_and_not_found_is_named_whatever_the_uid_may_read(open_home, settings):
    """The search imports a module late; where the interpreter lies in a closed home, the new uid can't read it."""
    bench = bench_in(open_home, settings, sys.executable)
    handle = bench.runtime.create(bench.make_spec(argv=("no-such-program", "run")))
    with pytest.raises(RunFailed) as failed:
        bench.runtime.start(handle)
    assert (failed.value.type, failed.value.details["path"]) == ("image_missing", "no-such-program")


def test_nothing_of_a_run_folder_is_open_to_others(bench, settings):
    bench.serving()
    for path in (settings.HOME / "run").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_under_systemd_the_keeper_gets_a_scope_of_its_own(monkeypatch, tmp_path, settings):
    monkeypatch.setattr(process.os, "geteuid", lambda: 0)
    monkeypatch.setattr(process, "SYSTEMD", tmp_path)
    unit = f"--unit=zcplatform-{settings.INSTANCE}-t"
    assert process.scope("t") == ["systemd-run", "--scope", "--collect", "--quiet", unit, "--"]
    monkeypatch.setattr(process, "SYSTEMD", tmp_path / "absent")
    assert process.scope("t") == []


def test_log_sizes_are_read_as_docker_reads_them():
    assert [process.in_bytes(size) for size in ("7", "10k", "50m", "1G", "2mb")] == [
        7,
        10240,
        52428800,
        1 << 30,
        1 << 21,
    ]
    with pytest.raises(Misconfigured):
        process.in_bytes("much")


def test_an_agent_as_we_start_it_deviates_in_nothing_and_another_spec_is_seen(bench):
    spec, handle = bench.serving()
    assert bench.runtime.deviations(replace(spec, run="another", epoch=9), handle) == []
    assert bench.runtime.deviations(replace(spec, pids=99), handle) == ["it was started from another spec"]
    bench.runtime.stop(handle)
    assert bench.runtime.deviations(replace(spec, pids=99), handle) == ()


def test_a_process_with_another_uid_or_a_way_to_privileges_is_seen(bench):
    me = os.geteuid()
    with subprocess.Popen(["sleep", "60"]) as free:
        try:
            assert process.loosened(free.pid, me + 1) == [
                f"process {free.pid} has the uid {me}, not {me + 1}",
                f"process {free.pid} may gain privileges",
            ]
        finally:
            free.kill()
