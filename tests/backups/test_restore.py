"""Restore with real processes on real homes: what is put back, what is refused, and what a kill leaves."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from tests import processes
from tests.backups.conftest import error_of
from tests.backups.place import Place, some_slow


def leftovers(folder):
    names = [p.name for f in (folder, folder / "keys") for p in f.iterdir()]
    return [name for name in names if ".new-" in name or name.endswith(".tmp")]


def test_database_keys_and_configuration_come_back_together(two):
    done = two.home.run("restore", "--archive", str(two.archive), "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {os.path.basename(place) for place in told["replaced"]} == {"zcplatform.db", "vault.json", "platform.toml"}
    assert two.home.look() == two.was
    rows = sqlite3.connect(two.home.folder / "zcplatform.db")
    actions = [row[0] for row in rows.execute("SELECT action FROM audit_log")]
    assert actions.count("platform.restore") == 1
    for name in ("zcplatform.db", "keys/vault.json", "platform.toml"):
        assert (two.home.folder / name).stat().st_mode & 0o777 == 0o600


def test_undo_brings_the_earlier_state_back_and_can_be_undone(two):
    two.home.do("restore", "--archive", str(two.archive), "--yes")
    assert two.home.look() == two.was
    two.home.do("restore", "--undo", "--yes")
    assert two.home.look() == two.now
    two.home.do("restore", "--undo", "--yes")
    assert two.home.look() == two.was


def test_without_a_restore_there_is_nothing_to_undo(two):
    done = two.home.run("restore", "--undo", "--yes", "--json")
    assert (done.returncode, error_of(done)) == (1, "nothing_to_undo")


def test_an_empty_home_becomes_the_one_that_was_backed_up(two, tmp_path):
    other = Place(tmp_path / "elsewhere" / "home")
    other.do("restore", "--archive", str(two.archive), "--yes")
    assert other.look() == two.was
    assert (other.folder / "instance.id").read_text() == (two.home.folder / "instance.id").read_text()
    for name, mode in ((".", 0o711), ("tenants", 0o711), ("trash", 0o700), ("run", 0o700), ("keys", 0o700)):
        assert (other.folder / name).stat().st_mode & 0o777 == mode
    assert other.run("bootstrap", "--admin-email", "ops@example.test").returncode == 0


def test_verify_only_changes_nothing(two):
    before = two.home.tree()
    told = json.loads(two.home.do("restore", "--archive", str(two.archive), "--verify-only", "--json"))
    assert (told["verified_only"], told["replaced"], told["unreadable"]) == (True, [], 0)
    assert two.home.tree() == before


def test_it_asks_first(two):
    done = two.home.run("restore", "--archive", str(two.archive))
    assert done.returncode == 2
    assert "--yes" in done.stderr


@pytest.mark.parametrize("role", ["web", "workers"])
def test_f10_it_is_refused_while_serve_runs(two, role):
    before = two.home.tree()
    hold = (
        "import fcntl, sys, time\n"
        f"file = open({str(two.home.folder / 'run' / f'serve-{role}.lock')!r}, 'a+')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        done = two.home.run("restore", "--archive", str(two.archive), "--yes", "--json")
        assert (done.returncode, error_of(done)) == (1, "platform_running")
        assert two.home.tree() == before
        assert two.home.run("restore", "--archive", str(two.archive), "--verify-only").returncode == 0
    finally:
        holder.kill()
        holder.wait()


POINTS = [
    "restore.unpacked",
    "restore.examined",
    "restore.beside",
    "private_files.written",
    "private_files.replaced",
    "swap.journal",
    "swap.aside",
    "swap.aside@2",
    "swap.aside@3",
    *(f"swap.move@{number}" for number in range(1, 7)),
    "swap.moved",
    "private_files.written@2",
    "private_files.replaced@2",
    "swap.done",
    "restore.swapped",
]
NOT_BEGUN = POINTS[: POINTS.index("private_files.replaced")]


@pytest.mark.parametrize(
    "point", some_slow(POINTS, ["restore.examined", "swap.aside@2", "swap.journal", "swap.move@4", "swap.moved"])
)
def test_f11_killed_at_any_step_there_is_the_old_or_the_new_and_never_a_mixture(two, point):
    name, _, nth = point.partition("@")
    killed = two.home.run("restore", "--archive", str(two.archive), "--yes", failpoint=f"{name}=kill@{nth or 1}")
    assert killed.returncode == processes.KILLED, killed.stderr
    assert two.home.look() == (two.now if point in NOT_BEGUN else two.was)
    if point in NOT_BEGUN:
        two.home.do("restore", "--archive", str(two.archive), "--yes")
        assert two.home.look() == two.was
        assert leftovers(two.home.folder) == []
        assert list((two.home.folder / "restore").glob("staged-*")) == []


@pytest.mark.parametrize("point", ["swap.journal", "swap.move@2", "swap.move@5", "swap.moved"])
def test_f11_an_undo_that_is_killed_is_finished_by_whoever_comes_next(two, point):
    two.home.do("restore", "--archive", str(two.archive), "--yes")
    name, _, nth = point.partition("@")
    killed = two.home.run("restore", "--undo", "--yes", failpoint=f"{name}=kill@{nth or 1}")
    assert killed.returncode == processes.KILLED
    assert two.home.look() == two.now


def test_f11_two_at_once_one_is_refused(two):
    first = two.home.begin("restore", "--archive", str(two.archive), "--yes", failpoint="restore.examined=sleep:60")
    try:
        lock = two.home.folder / "run" / "serve-web.lock"
        while str(first.pid) not in (lock.read_text() if lock.exists() else ""):
            assert first.poll() is None
        done = two.home.run("restore", "--archive", str(two.archive), "--yes", "--json")
        assert (done.returncode, error_of(done)) == (1, "platform_running")
    finally:
        first.kill()
        first.wait()
    assert two.home.look() == two.now


def test_f9_a_passphrase_that_is_missing_or_wrong_is_told_by_name(two, tmp_path):
    wrapped = Place(two.home.folder, VAULT_PASSPHRASE="correct horse battery")
    archive = wrapped.backup("--output", str(tmp_path / "wrapped"))
    before = two.home.tree()
    for extra, kind in (
        ({}, "vault_passphrase_missing"),
        ({"VAULT_PASSPHRASE": "wrong one"}, "vault_passphrase_wrong"),
    ):
        done = Place(two.home.folder, **extra).run("restore", "--archive", str(archive), "--yes", "--json")
        assert (done.returncode, error_of(done)) == (1, kind)
    assert two.home.tree() == before
    wrapped.do("restore", "--archive", str(archive), "--yes")
    assert '"wrapped"' in (two.home.folder / "keys" / "vault.json").read_text()
    assert wrapped.look() == two.now


def test_f12_a_healthy_start_deletes_the_earlier_state(two):
    from tests.zcplatform.serving import wait_for

    two.home.do("restore", "--archive", str(two.archive), "--yes")
    kept = list(two.home.folder.glob(".zcplatform.db.before-*"))
    assert len(kept) == 1
    (two.home.folder / "platform.toml").write_text("[server]\nport = 18985\n")
    env = two.home.env | {"ZCPLATFORM_WEB_WORKERS": "1", "ZCPLATFORM_RUN_WORKERS": "1"}
    serve = subprocess.Popen([sys.executable, "-m", "zcplatform", "serve"], env=env, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: serve.poll() is not None or not kept[0].exists(), "the earlier state is deleted")
        assert serve.poll() is None
        assert not (two.home.folder / "restore" / "journal.json").exists()
    finally:
        serve.terminate()
        serve.wait(60)
    done = two.home.run("restore", "--undo", "--yes", "--json")
    assert error_of(done) == "nothing_to_undo"
