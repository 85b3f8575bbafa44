"""Commands beside a container: what is beyond the contract, above all that a time limit is one."""

from __future__ import annotations

import os
import time
import uuid

import pytest
from docker.transport.unixconn import UnixHTTPConnection

from tenants.runtimes import docker_exec, kill_script
from tests.tenants.runtimes.contract import alive, healthy, until
from zcplatform.lib.errors import RunFailed

pytestmark = pytest.mark.docker
# A child in a session of its own, and one that closed its output; both carry the marker in their command line.
FAMILY = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    os.fork()\n"
    "    time.sleep(600)\n"
    "if os.fork() == 0:\n"
    "    os.close(1); os.close(2)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture
def serving(docker_bench):
    spec, handle = docker_bench.serving()
    marker = f"exec-{uuid.uuid4()}"

    def run(source, **limits):
        return docker_bench.runtime.exec(handle, docker_bench.code(source, marker), **limits)

    run.spec, run.handle, run.marker, run.runtime = spec, handle, marker, docker_bench.runtime
    return run


@pytest.fixture
def unprivileged(monkeypatch):
    """The host's processes are not ours to kill: the helper container has to."""
    monkeypatch.setattr(kill_script, "kill_family", lambda mark: (0, True))


def test_g3_children_that_outlive_the_command_are_killed_too(serving):
    result = serving(FAMILY + "print('parent leaves', flush=True)", timeout_s=1.5)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "parent leaves\n")
    assert alive(serving.marker) == []
    assert healthy(serving.spec.port)


def test_g3_a_command_that_closed_its_output_still_has_a_limit(serving):
    result = serving("import os, time; os.close(1); os.close(2); time.sleep(600)", timeout_s=1)
    assert result.timed_out
    assert alive(serving.marker) == []


def test_g3_without_sight_of_the_processes_a_helper_kills_them(serving, unprivileged):
    result = serving(FAMILY + "time.sleep(600)", timeout_s=1)
    assert result.timed_out
    assert alive(serving.marker) == []
    assert healthy(serving.spec.port)


def test_g3_a_fork_bomb_is_bounded_and_killed(serving):
    result = serving("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", timeout_s=1)
    assert result.timed_out
    assert until(lambda: not alive(serving.marker))


def test_g3_endless_output_is_read_to_the_limit_and_no_further(serving):
    result = serving("while True: print('x' * 10000)", timeout_s=1, cap=50_000)
    assert (result.timed_out, result.truncated, len(result.output)) == (True, True, 50_000)
    assert alive(serving.marker) == []


def test_g3_other_processes_of_the_tenant_are_not_hit(serving):
    marker = f"other-{uuid.uuid4()}"
    code = serving.spec.argv[0], "-c", "import time; time.sleep(30)", marker
    made = serving.runtime.engine.call("exec_create", serving.handle.id, list(code))
    serving.runtime.engine.call("exec_start", made["Id"], detach=True)
    until(lambda: alive(marker))
    assert serving("import time; time.sleep(600)", timeout_s=1).timed_out
    assert len(alive(marker)) == 1


def test_g1_the_command_is_a_list_and_runs_as_the_tenant(serving):
    source = "import os, sys; print(os.getuid(), os.getgid(), os.getgroups(), sys.stdin.read() == '')"
    uid = serving.spec.uid
    assert serving(source).output == f"{uid} {uid} [{uid}] True\n".replace(f"[{uid}]", str([uid]))


def test_g5_bytes_that_are_no_text_are_replaced(serving):
    result = serving("import sys; sys.stdout.buffer.write(b'caf\\xe9 \\x1b[31m\\x00<b>')")
    assert result.output == "caf\ufffd \x1b[31m\x00<b>"


def test_both_streams_arrive_whole_when_they_are_long(serving):
    source = "import sys\nfor n in range(2000): print('o' * 99); print('e' * 99, file=sys.stderr)"
    output = serving(source).output
    assert (output.count("o"), output.count("e")) == (198_000, 198_000)


def test_a_fast_answer_is_never_lost(serving, monkeypatch):
    """An engine may send output together with the HTTP head, when we come late to read it."""
    getresponse = UnixHTTPConnection.getresponse

    def late(self):
        time.sleep(0.5)
        return getresponse(self)

    monkeypatch.setattr(UnixHTTPConnection, "getresponse", late)
    assert serving("print('quick')").output == "quick\n"


def test_an_agent_that_ends_meanwhile_ends_the_command(serving):
    result = serving("import os, time; os.kill(1, 15); time.sleep(600)", timeout_s=20)
    assert not result.timed_out
    assert result.exit_code == 137


def test_no_connection_is_kept(serving):
    serving("pass")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        serving("pass")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_the_mark_is_in_the_commands_environment_and_not_in_the_agents(serving):
    assert serving("import os; print(os.environ.get('ZCPLATFORM_EXEC', '') != '')").output == "True\n"
    inspected = serving.runtime.engine.call("inspect_container", serving.handle.id)
    assert docker_exec.MARK not in str(inspected)


def test_a_helper_that_can_not_start_does_not_hide_the_time_limit(serving, unprivileged, monkeypatch):
    """The container may have ended in the meantime, and nothing is left to kill."""

    def refused(engine, helper):
        raise RunFailed("cannot join the PID namespace of a container that is not running")

    monkeypatch.setattr(docker_exec, "run_helper", refused)
    assert serving("import time; time.sleep(3)", timeout_s=1).timed_out
