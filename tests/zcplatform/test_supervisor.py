"""``serve`` with real processes on a real database: killed, silenced, drained, and started twice."""

import os
import shutil
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.core import checks
from django.core.checks.registry import registry
from django.core.management import CommandError, call_command

from tests.zcplatform.serving import Home, children_of, runs, tree_of, wait_for
from vault.services import create_keyring
from zcplatform import leader, startup, supervisor, ticker
from zcplatform.programs import Program

READY = ("workers of runs: 2", "workers of sweeps: 3")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def served(home):
    """One ``serve`` for the tests after which it must work as before."""
    with home.serve("--no-web") as serve:
        serve.wait_until_said(*READY)
        yield serve


def test_a_worker_killed_at_work_is_replaced_by_its_cluster(home, served):
    wait_for(home.give("runs", "first").exists, "runs works")
    slow = home.give("runs", "slow", seconds=600)
    wait_for(slow.with_name("slow.begun").exists, "a worker is busy")
    before, main = served.workers_of("runs"), served.main_of("runs")
    os.kill(busy_worker(served, "runs"), signal.SIGKILL)
    wait_for(lambda: set(served.workers_of("runs")) - set(before), "a new worker")
    assert served.main_of("runs") == main


def test_a_cluster_whose_first_process_is_killed_ends_whole_and_is_started_again(home, served):
    wait_for(home.give("sweeps", "second").exists, "sweeps works")
    orphans = tree_of(served.main_of("sweeps"))
    assert len(orphans) >= 5
    os.kill(served.main_of("sweeps"), signal.SIGKILL)
    wait_for(lambda: not any(map(runs, orphans)), "the orphans end")
    wait_for(home.give("sweeps", "third").exists, "sweeps works again")
    served.wait_until_said("sweeps has ended")


def test_a_cluster_that_is_busy_to_the_last_worker_is_left_alone(home, served):
    main = served.main_of("runs")
    busy = [home.give("runs", f"busy-{n}", seconds=4.5) for n in range(2)]  # more than twice the patience here
    wait_for(home.give("runs", "waits-its-turn").exists, "the third has its turn")
    assert any(path.exists() for path in busy)
    assert served.main_of("runs") == main
    assert "fallen silent" not in served.log.read_text()


def test_a_cluster_whose_queue_lock_died_with_an_idle_worker_is_found_and_restarted(home, served):
    wait_for(home.give("runs", "before-silence").exists, "runs works")
    old, other = served.main_of("runs"), served.main_of("sweeps")
    board = home.folder / "run" / "board" / "runs"
    wait_for(lambda: {path.read_text() for path in board.iterdir()} == {"idle"}, "all wait for work")
    for pid in served.workers_of("runs"):  # one of them waits for the next task and holds the lock
        os.kill(pid, signal.SIGKILL)
    served.wait_until_said("runs has fallen silent")
    wait_for(home.give("runs", "after-silence").exists, "runs works again")
    assert not runs(old)
    assert served.main_of("sweeps") == other


def test_r18_one_serve_per_home_and_a_killed_one_leaves_only_the_agents(home, served):
    second = home.manage("serve", "--no-web")
    assert second.returncode == 2
    assert f"already runs the workers of {home.folder} (pid {served.pid})" in second.stderr

    note = home.give("runs", "agent", seconds=60, act="start_agent")
    wait_for(note.exists, "an agent is started")
    agent = int(note.read_text())
    everything = set(served.everything()) - {agent}
    assert len(everything) >= 10
    served.process.kill()
    served.process.wait()
    wait_for(lambda: not any(map(runs, everything)), "every child ends")
    assert runs(agent)
    os.kill(agent, signal.SIGKILL)


def test_r18_of_two_control_planes_on_one_database_one_works_and_a_frozen_one_is_overtaken_and_ends(tmp_path):
    """A copy of the home, as on a copied host: it shares keys, id and database, and not the lock of the folder."""
    (tmp_path / "first").mkdir()
    first = Home(tmp_path / "first")
    shutil.copytree(first.folder, tmp_path / "second")
    second = Home(tmp_path / "second", DATABASE_URL=f"sqlite:///{first.folder}/zcplatform.db")
    with first.serve("--no-web") as one, second.serve("--no-web") as other:
        one_or_other = wait_for(lambda: [s for s in (one, other) if s.process.poll() is not None], "one refuses")
        assert [s.process.returncode for s in one_or_other] == [2]
        (refused,) = one_or_other
        working = other if refused is one else one
        said = f"serve already runs the workers of this database ({socket.gethostname()[:60]}/"
        assert said in refused.log.read_text() and f"{working.home.folder})" in refused.log.read_text()
        working.wait_until_said(*READY)
        os.kill(working.pid, signal.SIGSTOP)
        with refused.home.serve("--no-web") as next_one:
            next_one.wait_until_said("waiting for the lease of", *READY)
            os.kill(working.pid, signal.SIGCONT)
            assert working.process.wait(timeout=60) == 2
            assert "Another serve has taken over" in working.log.read_text()
            assert next_one.process.poll() is None
            wait_for(next_one.home.give("runs", "afterwards").exists, "and it works")


def test_r18_a_lease_that_was_given_back_keeps_nobody_waiting(complete, settings, tmp_path):
    leader.Lead().take(pytest.fail)
    last = leader.Lead()
    last.take(pytest.fail)  # the same home, whose own lock says that the first is dead
    last.give_back()
    settings.HOME = tmp_path / "another"
    leader.Lead().take(pytest.fail)


def test_r19_sigterm_finishes_what_is_under_way(home):  # on a home whose last serve was killed
    with home.serve("--no-web") as serve:
        serve.wait_until_said(*READY)
        out = home.give("runs", "under-way", seconds=2)
        wait_for(out.with_name("under-way.begun").exists, "the work begins")
        everything = serve.everything()
        serve.process.send_signal(signal.SIGTERM)
        assert serve.process.wait(timeout=60) == 0
        assert out.exists()
        assert not any(map(runs, everything))


def test_a_second_signal_ends_it_at_once(home):
    with home.serve("--no-web") as serve:
        serve.wait_until_said(*READY)
        out = home.give("runs", "given-up", seconds=600)
        wait_for(out.with_name("given-up.begun").exists, "the work begins")
        everything = serve.everything()
        serve.process.send_signal(signal.SIGTERM)
        serve.wait_until_said("stopping")
        serve.process.send_signal(signal.SIGTERM)
        assert serve.process.wait(timeout=20) == 0
        assert not any(map(runs, everything))


def test_the_web_answers_and_ends_with_its_supervisor(home):
    port = free_port()
    with home.serve("--no-workers", "--port", str(port)) as serve:
        serve.wait_until_said(f"web on http://127.0.0.1:{port}")
        assert status_of(port) < 500
        [master] = children_of(serve.pid)
        [worker] = wait_for(lambda: children_of(master), "a web worker")
        serve.process.kill()
        wait_for(lambda: not runs(master) and not runs(worker), "the web ends")


@pytest.mark.caddy
def test_caddy_is_started_comes_back_and_ends_with_the_rest(tmp_path):
    port, public = free_port(), free_port()
    home = Home(tmp_path, ROUTER="caddy", CADDY_LISTEN=f"127.0.0.1:{public}", CADDY_HTTPS="0", PORT=str(port))
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        caddy = caddy_of(serve)
        os.kill(caddy, signal.SIGKILL)
        serve.wait_until_said("caddy has ended")
        wait_for(lambda: caddy_of(serve), "caddy is back")
        everything = serve.everything()
        serve.process.send_signal(signal.SIGTERM)
        assert serve.process.wait(timeout=60) == 0
        assert not any(map(runs, everything))


def caddy_of(serve):
    found = [pid for pid in children_of(serve.pid) if Path(f"/proc/{pid}/comm").read_text().strip() == "caddy"]
    return found[0] if found else 0


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def status_of(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def busy_worker(serve, cluster):
    board = serve.home.folder / "run" / "board" / cluster
    return next(int(path.name) for path in board.iterdir() if path.read_text() == "busy")


def refusal(*arguments):
    with pytest.raises(CommandError) as caught:
        call_command("serve", *arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


@pytest.fixture
def complete(db, settings, tmp_path):
    """A home on which ``serve`` would start; nothing is started should a refusal fail to come."""
    settings.HOME = tmp_path
    settings.VAULT_KEY_FILE = tmp_path / "keys" / "vault.json"
    create_keyring()
    settings.ROUTER = "direct"


@pytest.fixture
def nothing_runs(monkeypatch):
    monkeypatch.setattr(supervisor.Supervisor, "run", lambda self: pytest.fail("it was started"))


def test_missing_keys_stop_the_start(complete, nothing_runs, settings):
    settings.JWT_KEY = ""
    settings.VAULT_KEY_FILE.unlink()
    assert "Missing keys: JWT_KEY, VAULT_KEY_FILE" in refusal()


def test_an_unapplied_migration_stops_the_start(complete, nothing_runs):
    from django.db.migrations.recorder import MigrationRecorder

    MigrationRecorder.Migration.objects.filter(app="monitoring").delete()
    assert "Unapplied migrations: monitoring.0001_initial" in refusal()


def test_a_failing_system_check_stops_the_start(complete, nothing_runs, monkeypatch):
    def broken(**_):
        return [checks.Error("the folder is gone", hint="make it", id="zcplatform.E000")]

    monkeypatch.setattr(registry, "registered_checks", {*registry.registered_checks, broken})
    broken.tags = ()
    assert "(zcplatform.E000) the folder is gone" in refusal()


def test_a_taken_port_stops_the_start(complete, nothing_runs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use" in refusal("--no-workers", "--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_port_that_is_none_stops_the_start(complete, nothing_runs, port):
    assert refusal("--no-workers", f"--port={port}") == f"--port {port}: a port is 1 to 65535."


def test_nothing_to_serve_is_refused(complete, nothing_runs):
    assert "Nothing to serve" in refusal("--no-web", "--no-workers")


def test_the_lock_is_free_again_when_its_holder_is_gone(settings, tmp_path):
    settings.HOME = tmp_path
    startup.lock("web").close()
    with startup.lock("web"), startup.lock("workers"), pytest.raises(startup.Misconfigured, match=str(os.getpid())):
        startup.lock("web")


def test_the_pause_before_a_restart_doubles_and_is_short_again_after_a_steady_minute(monkeypatch):
    child = supervisor.Child(Program("x", ("true",), lambda: True, ""))
    child.started_at = now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    assert [child.back_off() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    now += 60
    assert child.back_off() == 1


def test_a_duty_that_fails_is_logged_once_and_so_is_its_recovery(caplog, monkeypatch):
    monkeypatch.setattr(ticker, "close_old_connections", lambda: None)
    answers = iter([OSError("locked"), OSError("locked"), None])

    def act():
        if answer := next(answers):
            raise answer

    duty = ticker.Duty("sweep", act, every_s=0)
    for _ in range(3):
        duty.perform()
    assert [record.message.split(";")[0] for record in caplog.records] == ["sweep fails", "sweep works again"]


def test_systemd_hears_that_the_service_is_ready(tmp_path, monkeypatch):
    from zcplatform import notify

    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify.send("READY=1")
        assert systemd.recv(64) == b"READY=1"
    notify.send("READY=1")  # nobody listens any more: not worth ending for
