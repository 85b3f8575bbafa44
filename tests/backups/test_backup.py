"""Making a backup: what is in it, what a kill or a full disk leaves, and that writers go on."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import tarfile
import threading
from contextlib import closing, contextmanager

import pytest

from backups import folder, manifest, snapshot
from tests import processes
from tests.backups.conftest import error_of
from tests.backups.place import Place, some_slow
from vault import keyfile

NAME = re.compile(r"zcplatform-backup-\d{4}-\d\d-\d\d-\d{6}\.tar\.gz")
LOCK = ".zcplatform-backup-lock"


def contents(path):
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def in_folder(path):
    return sorted(item.name for item in path.iterdir() if item.name != LOCK)


def job_rows(home):
    with closing(sqlite3.connect(home.folder / "zcplatform.db")) as database:
        return database.execute("SELECT name, ok FROM job_results ORDER BY id").fetchall()


def test_it_holds_database_keys_configuration_and_a_manifest(two, tmp_path):
    path = two.home.backup("--output", str(tmp_path / "new" / "folder"))
    assert NAME.fullmatch(path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    inside = contents(path)
    small = {"instance.id", "platform.toml", "keys/django.key", "keys/jwt.key", "keys/pepper.key", "keys/vault.json"}
    assert set(inside) == {"manifest.json", "database.sqlite3", *small}
    assert next(iter(inside)) == "manifest.json"
    for name in small:
        assert inside[name] == (two.home.folder / name).read_bytes()
    about = json.loads(inside["manifest.json"])
    assert (about["format"], about["vendor"], about["wrapped"]) == (1, "sqlite", False)
    assert about["migrations"]["vault"] == "0002_origins"
    assert about["rows"]["vault_secrets"] == 2
    assert {item["name"] for item in about["members"]} == set(inside) - {"manifest.json"}


def test_any_tar_reads_it(two, tmp_path):
    listed = subprocess.run(["tar", "tzf", two.archive], capture_output=True, text=True)
    assert listed.returncode == 0
    assert "keys/vault.json" in listed.stdout.splitlines()


def test_it_is_written_down_in_audit_and_job_results(two, tmp_path):
    two.home.do("backup")
    assert job_rows(two.home)[-1] == ("backup", 1)
    with closing(sqlite3.connect(two.home.folder / "zcplatform.db")) as database:
        outcomes = database.execute("SELECT outcome FROM audit_log WHERE action = 'platform.backup'").fetchall()
    assert outcomes[-1] == ("ok",)
    assert two.home.look() == two.now


def test_without_a_passphrase_it_warns_and_with_one_the_key_is_wrapped(two, tmp_path):
    plain = two.home.run("backup", "--output", str(tmp_path / "plain"))
    assert "unwrapped" in plain.stderr
    two.home.env["ZCPLATFORM_VAULT_PASSPHRASE"] = "correct horse"
    wrapped = two.home.run("backup", "--output", str(tmp_path / "wrapped"))
    assert wrapped.stderr == ""
    inside = contents(next((tmp_path / "wrapped").glob("zc*")))
    assert b'"wrapped"' in inside["keys/vault.json"]
    key = keyfile.parse((two.home.folder / "keys" / "vault.json").read_bytes(), "").newest
    assert key.secret.hex().encode() not in inside["keys/vault.json"]


def test_keep_leaves_the_newest_and_nothing_that_is_no_archive(two, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    for day in (1, 2, 3):
        (out / f"zcplatform-backup-2020-01-0{day}-030000.tar.gz").write_text("old")
    (out / "notes.txt").write_text("mine")
    told = json.loads(two.home.do("backup", "--output", str(out), "--keep", "2", "--json"))
    assert told["removed"] == [
        "zcplatform-backup-2020-01-01-030000.tar.gz",
        "zcplatform-backup-2020-01-02-030000.tar.gz",
    ]
    assert len(in_folder(out)) == 3
    assert (out / "notes.txt").exists()


def test_a_number_to_keep_that_is_none_is_wrong_usage(two, tmp_path):
    done = two.home.run("backup", "--output", str(tmp_path / "out"), "--keep", "-3")
    assert (done.returncode, "--keep" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_nobody_is_told_to_close_a_folder_that_all_share(two, tmp_path):
    out = tmp_path / "shared"
    out.mkdir()
    out.chmod(0o1777)
    said = two.home.run("backup", "--output", str(out)).stderr
    assert "open to others; name one of its own" in said
    assert "chmod" not in said


@pytest.mark.parametrize("mode", [0o755, 0o750 | 0o004, 0o770, 0o707])
def test_f15_a_folder_that_others_can_read_or_write_is_refused(two, tmp_path, mode):
    out = tmp_path / "open"
    out.mkdir()
    out.chmod(mode)
    two.home.env["ZCPLATFORM_BACKUP_DIR"] = str(out)
    done = two.home.run("backup", "--json")
    assert (done.returncode, error_of(done)) == (1, "loose_folder")
    assert in_folder(out) == []
    assert job_rows(two.home)[-1] == ("backup", 0)


@pytest.mark.root
def test_f15_a_folder_of_somebody_else_is_refused(two, tmp_path):
    out = tmp_path / "theirs"
    out.mkdir(mode=0o700)
    os.chown(out, 12_345, 12_345)
    done = two.home.run("backup", "--output", str(out), "--json")
    assert (done.returncode, error_of(done)) == (1, "loose_folder")


POINTS = [
    "backup.begun",
    "backup.snapshot",
    "backup.staged",
    "backup.member",
    "backup.member@7",
    "backup.written",
    "backup.named",
    "backup.recorded",
]


@pytest.mark.parametrize("point", some_slow(POINTS, ["backup.named", "backup.snapshot", "backup.written"]))
def test_killed_at_any_step_there_is_a_whole_archive_or_none_and_the_next_clears_up(two, tmp_path, point):
    out = tmp_path / "out"
    name, _, nth = point.partition("@")
    killed = two.home.run("backup", "--output", str(out), failpoint=f"{name}=kill@{nth or 1}")
    assert killed.returncode == processes.KILLED
    whole = folder.archives(out)
    assert len(whole) == (point in ("backup.named", "backup.recorded"))
    for path in whole:
        two.home.do("restore", "--archive", str(path), "--verify-only")
    path = two.home.backup("--output", str(out))
    assert set(in_folder(out)) == {path.name, *(item.name for item in whole)}
    two.home.do("restore", "--archive", str(path), "--verify-only")
    assert two.home.look() == two.now


def test_a_second_backup_into_the_same_folder_is_refused(two, tmp_path):
    out = tmp_path / "out"
    first = two.home.begin("backup", "--output", str(out), failpoint="backup.staged=sleep:60")
    try:
        while not list(out.glob(".zcplatform-backup.*/database.sqlite3")):
            assert first.poll() is None
        done = two.home.run("backup", "--output", str(out), "--json")
        assert (done.returncode, error_of(done)) == (1, "backup_in_progress")
    finally:
        first.kill()
        first.wait()


@contextmanager
def small_disk(path, megabytes):
    """A real file system of that size."""
    path.mkdir(mode=0o700)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(path)]
    mounted = subprocess.run(argv, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("part", [0.5, 1.1])
def test_f14_a_full_disk_leaves_nothing_under_an_archives_name(two, tmp_path, part):
    """Once while the database is copied, once while the archive is packed. The older archive stays."""
    with closing(sqlite3.connect(two.home.folder / "zcplatform.db")) as database:
        database.execute("CREATE TABLE ballast (data BLOB)")
        database.executemany("INSERT INTO ballast VALUES (?)", [(os.urandom(1 << 20),) for _ in range(16)])
        database.commit()
    with small_disk(tmp_path / "small", int(17 * part)) as out:
        older = out / "zcplatform-backup-2020-01-01-030000.tar.gz"
        older.write_text("older")
        two.home.env["ZCPLATFORM_BACKUP_DIR"] = str(out)
        done = two.home.run("backup", "--keep", "1", "--json")
        assert (done.returncode, error_of(done)) == (1, "storage_full")
        assert in_folder(out) == [older.name]
    assert job_rows(two.home)[-1] == ("backup", 0)


def test_f13_the_copy_is_of_one_moment_while_others_write(tmp_path):
    """Two tables that are always equal in the original are equal in every copy."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE a (n INTEGER)")
        database.execute("CREATE TABLE b (n INTEGER, pad BLOB)")
        database.commit()
    ending, written = threading.Event(), []

    def write():
        with closing(sqlite3.connect(source, timeout=30, isolation_level=None)) as database:
            while not ending.is_set():
                database.execute("BEGIN IMMEDIATE")
                database.execute("INSERT INTO a VALUES (1)")
                database.execute("INSERT INTO b VALUES (1, zeroblob(2000))")
                database.execute("COMMIT")
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(8):
            at_start, copy = len(written), tmp_path / f"copy{number}.db"
            snapshot.copy_sqlite(source, copy)
            with closing(sqlite3.connect(copy)) as database:
                counts = [database.execute(text).fetchone()[0] for text in (COUNT_A, COUNT_B)]
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert counts[0] == counts[1] >= at_start
            assert not list(tmp_path.glob(f"copy{number}.db-*"))
    finally:
        ending.set()
        writer.join()


COUNT_A, COUNT_B = "SELECT count(*) FROM a", "SELECT count(*) FROM b"


def test_a_key_file_that_does_not_fit_the_database_makes_no_backup(two, tmp_path):
    other = Place(tmp_path / "other").bootstrap()
    (two.home.folder / "keys" / "vault.json").write_bytes((other.folder / "keys" / "vault.json").read_bytes())
    done = two.home.run("backup", "--output", str(tmp_path / "out"), "--json")
    assert done.returncode == 1
    assert error_of(done) in ("vault_key_foreign", "vault_key_incomplete")
    assert in_folder(tmp_path / "out") == []


def test_the_manifest_is_signed_over_everything_but_the_signature(two):
    about = manifest.parse(contents(two.archive)["manifest.json"])
    assert manifest.parse(about.dump()) == about
    assert about.signature.encode() not in about.signed()
