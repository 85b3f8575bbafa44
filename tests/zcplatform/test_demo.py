"""The demo's parts, and the whole of it once, as a reader of the README runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.architecture import PACKAGES, ROOT
from tests.commands import manage
from tests.zcplatform.serving import children_of, wait_for
from zcplatform import demo
from zcplatform.lib.errors import Misconfigured


def environment_of_a_reader():
    """Without the suite's own settings, which would lead every process to the suite's home."""
    ours = ("ZC", "DJANGO_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PYTHONPATH": str(ROOT)}


def made(home, say=lambda line: None):
    return demo.Demo("process", home, say)


def test_a_demo_inherits_no_setting_of_a_real_installation(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCPLATFORM_DATABASE_URL", "sqlite:////srv/zcplatform/zcplatform.db")
    monkeypatch.setenv("ZCPLATFORM_INSTANCE", "abcdef012345")
    monkeypatch.setenv("ZCPLATFORM_KEYS_DIR", "/srv/zcplatform/keys")
    monkeypatch.setenv("ZCPLATFORM_DOCKER_HOST", "unix:///run/other.sock")
    env = made(tmp_path).env
    assert not {"ZCPLATFORM_DATABASE_URL", "ZCPLATFORM_INSTANCE", "ZCPLATFORM_KEYS_DIR"} & env.keys()
    assert env["ZCPLATFORM_HOME"] == str(tmp_path)
    assert env["ZCPLATFORM_DOCKER_HOST"] == "unix:///run/other.sock"
    assert env["PATH"] == os.environ["PATH"]


def test_a_taken_port_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        assert demo._free_port(taken) != taken
    assert demo._free_port(taken) == taken


def test_a_part_is_told_only_when_it_is_done(tmp_path):
    told = []
    running = made(tmp_path, told.append)
    with running.part("one", "the first"):
        pass
    with pytest.raises(KeyError), running.part("two", "the second"):
        raise KeyError
    assert [line.split()[1:3] for line in told] == [["the", "first"]]
    assert list(running.seconds) == ["one"]


def test_a_command_that_fails_ends_the_demo_with_its_words(tmp_path):
    with pytest.raises(Misconfigured, match=r"bootstrap failed: .*--admin-email") as failed:
        made(tmp_path).manage("bootstrap")
    assert failed.value.type == "demo_failed"


def test_down_without_up_has_nothing_to_do(tmp_path):
    running = made(tmp_path)
    running.down()
    assert list(tmp_path.iterdir()) == []
    assert "teardown" in running.seconds


def test_what_was_begun_is_taken_down_when_a_part_fails(monkeypatch):
    done = []

    def up(running):
        done.append(("up", running.home.is_dir()))
        raise Misconfigured("Nothing starts today.")

    monkeypatch.setattr(demo.Demo, "up", up)
    monkeypatch.setattr(demo.Demo, "down", lambda running: done.append(("down", running.home.is_dir())))
    failed = manage("demo", "--check")
    assert (failed.code, done) == (1, [("up", True), ("down", True)])
    assert failed.json == {"ok": False, "error": {"type": "misconfigured", "message": "Nothing starts today."}}


def test_a_demo_that_stays_tells_its_failure_in_words(monkeypatch):
    def stay(*_):
        raise Misconfigured("Nothing starts today.")

    monkeypatch.setattr(demo, "stay", stay)
    failed = manage("demo")
    assert (failed.code, failed.out, failed.err) == (1, "", "Nothing starts today.")


@pytest.fixture
def make(tmp_path):
    """The Makefile itself, with stand-ins for the programs of an environment that is still empty. They note what
    they are called with."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "uv"):
        note = f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/called\n'
        (programs / name).write_text(note + "[ \"$1\" != manage.py ] || echo '{}'\n")
        (programs / name).chmod(0o755)
    (tmp_path / "venv" / ".uv").touch()
    env = {name: value for name, value in environment_of_a_reader().items() if not name.startswith(("MAKE", "MFLAGS"))}

    def run(*argv):
        argv = ["make", f"VENV={tmp_path / 'venv'}", *argv]
        return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)

    return run


def test_make_adds_nothing_to_the_json_of_a_checked_demo(make):
    done = make("demo", "CHECK=1")
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr
    assert "installing requirements.lock" in done.stderr


@pytest.mark.parametrize("target", ["install", "install-dev"])
def test_what_make_installs_is_compiled_and_so_is_the_code_each_time(make, tmp_path, target):
    """Those who run it may not write beside it, and would compile all of it at each start."""
    ours = f"python -m compileall -q {' '.join(sorted(name for name in PACKAGES if (ROOT / name).is_dir()))}"
    for _ in range(2):
        assert make(target).returncode == 0
    called = (tmp_path / "called").read_text().splitlines()
    assert [line for line in called if line.startswith("uv pip sync") and "--compile-bytecode" in line]
    words = [line.split() for line in called if "compileall" in line]
    assert [" ".join([*line[:4], *sorted(line[4:])]) for line in words] == [ours, ours]


@pytest.mark.caddy
def test_the_whole_demo_once(tmp_path):
    env = environment_of_a_reader() | {"ZCPLATFORM_HOME": str(tmp_path / "never")}
    argv = [sys.executable, "-m", "zcplatform", "demo", "--check"]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["chat"]["status"] == 200
    assert "Hello from the demo" in told["chat"]["reply"]
    assert len(told["tenants"]) == 2
    assert {"bootstrap", "serve", "provision_acme", "provision_globex", "chat", "teardown"} <= told["seconds"].keys()
    assert not (tmp_path / "never").exists(), "the configured home is not the demo's"
    with pytest.raises(httpx.TransportError):
        httpx.get(told["tenants"][0].replace("acme.localhost", "127.0.0.1"), trust_env=False)


@pytest.fixture
def staying(tmp_path):
    """A demo that stays, with a terminal's process group and what it printed so far."""
    env = environment_of_a_reader() | {"ZCPLATFORM_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    printed = tmp_path / "printed"
    with printed.open("wb") as out:
        argv = [sys.executable, "-m", "zcplatform", "demo"]
        running = subprocess.Popen(argv, env=env, cwd=tmp_path, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(lambda: "Ctrl-C" in printed.read_text() or running.poll() is not None, "the demo is up")
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(120)


def living_tenants(home):
    with sqlite3.connect(home / "demo" / "zcplatform.db") as database:
        return database.execute("SELECT count(*) FROM tenants WHERE status != 'deleted'").fetchone()[0]


@pytest.mark.caddy
def test_ctrl_c_reaches_the_whole_group_and_everything_is_taken_down(staying, tmp_path):
    assert living_tenants(tmp_path) == 2, (tmp_path / "printed").read_text()
    os.killpg(staying.pid, signal.SIGINT)
    assert staying.wait(120) == 0, (tmp_path / "printed").read_text()
    assert living_tenants(tmp_path) == 0


@pytest.mark.slow
@pytest.mark.caddy
def test_a_demo_whose_platform_dies_still_deletes_its_tenants(staying, tmp_path):
    (serve,) = (pid for pid in children_of(staying.pid) if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(serve, signal.SIGTERM)
    assert staying.wait(120) == 0, (tmp_path / "printed").read_text()
    assert living_tenants(tmp_path) == 0
