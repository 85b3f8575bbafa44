"""Lock files, with a stranger of another uid who wants to hold them: no one but us can, and nobody waits for good."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenants.egress import firewall
from tenants.runtimes.rundir import RunDir
from vault import keyring
from zcplatform import startup
from zcplatform.lib import locks, swap
from zcplatform.lib.errors import Conflict, DependencyTimeout, Misconfigured
from zcplatform.lib.home import make_folders
from zcplatform.lib.sqlite3.base import SUFFIX, Turns

STRANGER = 200_777
TENANT = "0b0e5a6e-5b0f-4f6e-9d0e-2f6c5a1d9c11"
HOLD = """
import fcntl, os, sys
uid, path, leave = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "leave"
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
try:
    file = os.open(path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    print(type(error).__name__, flush=True)
    raise SystemExit
if leave and os.fork():
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(path, *, uid=STRANGER, leave=False):
    """What a process of another uid gets when it wants the lock; it keeps it until the end of the block."""
    argv = [sys.executable, "-I", "-c", HOLD, str(uid), str(path), "leave" if leave else "stay"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


@pytest.fixture
def home(settings):
    """A home that other uids can reach, as agents of the process runtime do; one that earlier versions made."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        settings.HOME = Path(folder) / "home"
        make_folders(settings.HOME)
        (settings.HOME / "run").chmod(0o711)
        settings.VAULT_KEY_FILE = settings.HOME / "keys" / "vault.json"
        settings.VAULT_KEY_FILE.parent.mkdir(mode=0o700)
        yield settings.HOME


@contextmanager
def closing(descriptor):
    try:
        yield
    finally:
        os.close(descriptor)


def test_a_second_one_is_busy_and_a_file_is_made_private(tmp_path):
    path = tmp_path / "lock"
    before = os.umask(0)
    try:
        with closing(locks.take(path)):
            assert path.stat().st_mode & 0o777 == 0o600
            with pytest.raises(locks.Busy):
                locks.take(path, wait_s=0.05)
    finally:
        os.umask(before)
    os.close(locks.take(path))


def test_one_who_waits_gets_it_when_the_other_ends(tmp_path):
    path, held = tmp_path / "lock", locks.take(tmp_path / "lock")
    threading.Timer(0.1, os.close, [held]).start()
    os.close(locks.take(path, wait_s=60))


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        locks.take(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_one_of_us_who_holds_a_loose_file_of_an_earlier_version_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as file:
        path.chmod(0o644)
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(locks.Busy):
            locks.take(path)
    os.close(locks.take(path))
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.root
@pytest.mark.parametrize("leave", [False, True])
def test_a_stranger_who_holds_a_loose_file_of_an_earlier_version_keeps_nobody_out(home, leave):
    path = home / "run" / "serve-web.lock"
    path.write_text("")
    path.chmod(0o644)
    with stranger(path, leave=leave) as got:
        assert got == "held"
        with startup.lock("web"):
            assert path.stat().st_mode & 0o777 == 0o600
            with pytest.raises(Misconfigured, match="serve already runs"):
                startup.lock("web")


@pytest.mark.root
@pytest.mark.timeout(60)
def test_a_stranger_who_holds_the_folder_too_is_not_waited_for_without_end(home):
    path = home / "run" / "serve-web.lock"
    path.write_text("")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    with stranger(path.parent) as folder, stranger(path) as file:
        assert (folder, file) == ("held", "held")
        with pytest.raises(Misconfigured, match="serve already runs"):
            startup.lock("web")
    startup.lock("web").close()


TAKEN = {
    "run/serve-web.lock": lambda: startup.lock("web").close(),
    "run/serve-workers.lock": lambda: startup.lock("workers").close(),
    "run/firewall.lock": lambda: firewall._alone().__enter__(),
    "run/router.lock": lambda: _turn(),
    f"run/{TENANT}.lock": lambda: _keep(RunDir(TENANT)),
    "restore/journal.lock": lambda: _enter(swap._alone(swap.folder(Path(_home())).parent)),
    "keys/vault.json.lock": lambda: _enter(keyring.exclusive()),
}


def _home():
    from django.conf import settings

    return settings.HOME


def _enter(context):
    with context:
        pass


def _turn():
    from tenants.routing import caddy

    _enter(caddy._turn())


def _keep(run):
    run.path.mkdir(parents=True, exist_ok=True)  # else the lock's file goes with the agent
    _enter(run.locked())


@pytest.mark.root
@pytest.mark.parametrize("name", TAKEN)
def test_no_lock_of_ours_can_be_opened_by_an_agents_uid(home, name):
    TAKEN[name]()
    with stranger(home / name) as got:
        assert got == "PermissionError"
        TAKEN[name]()


@pytest.mark.root
def test_folders_that_an_earlier_version_left_open_are_closed_with_the_first_lock(home):
    os.close(locks.take(home / "run" / "x"))
    startup.lock("web").close()
    assert (home / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def test_the_turn_at_the_database_can_not_be_held_by_an_agents_uid(home):
    database = home / "zcplatform.db"
    database.touch(mode=0o600)
    loose = Path(f"{database}{SUFFIX}")
    loose.touch()
    loose.chmod(0o644)
    turns = Turns(str(database))
    assert turns.take(float("inf"))
    turns.give()
    with stranger(loose) as got:
        assert got == "PermissionError"


@pytest.fixture
def impatient(monkeypatch):
    for place in ("zcplatform.lib.swap.WAIT_S", "vault.keyring.WAIT_S", "tenants.egress.firewall.TURN_S"):
        monkeypatch.setattr(place, 0.05)
    monkeypatch.setattr("tenants.runtimes.rundir.LOCK_WAIT_S", 0.05)


@pytest.mark.parametrize(
    ("name", "act", "fault"),
    [
        ("run/firewall.lock", lambda: _enter(firewall._alone()), firewall.Failed),
        (f"run/{TENANT}.lock", lambda: _enter(RunDir(TENANT).locked()), DependencyTimeout),
        ("restore/journal.lock", lambda: _enter(swap._alone(Path(_home()))), Conflict),
        ("keys/vault.json.lock", lambda: _enter(keyring.exclusive(wait=True)), Conflict),
    ],
)
def test_nobody_waits_without_end_for_one_of_us_who_hangs(home, impatient, name, act, fault):
    swap.folder(home)
    with closing(locks.take(home / name)), pytest.raises(fault):
        act()


def test_a_firewall_that_another_hangs_at_is_a_reason_and_no_hanging_sweep(home, impatient, monkeypatch):
    with closing(locks.take(home / "run" / "firewall.lock")):
        assert "another process" in firewall.apply()


def test_only_one_of_many_is_inside_whatever_they_find_there(tmp_path):
    """All begin with a loose file, which each of them wants to put aside."""
    path, inside, most = tmp_path / "lock", [], []
    path.touch()
    path.chmod(0o666)

    def enter():
        for _ in range(20):
            with locks.held(path, busy=AssertionError("never"), wait_s=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (160, 1)
