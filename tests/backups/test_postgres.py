"""Backup, restore, undo and upgrade on a real PostgreSQL of its own."""

from __future__ import annotations

import json
import subprocess
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests import postgres, processes
from tests.backups.place import Place, some_slow

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster():
    """The address of a server, gone at the end."""
    with postgres.cluster() as url:
        yield url


def at(cluster, name):
    return urlunsplit(urlsplit(cluster)._replace(path=f"/{name}"))


def sql(cluster, text, database="postgres"):
    argv = [postgres.programs() / "psql", "-d", at(cluster, database), "-Atc", text]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
def place(cluster, tmp_path, request):
    name = f"zc{abs(hash(request.node.name)) % 10**9}"
    sql(cluster, f"CREATE DATABASE {name}")
    made = Place(tmp_path / "pg", DATABASE_URL=at(cluster, name)).bootstrap()
    made.name = name
    made.put("first", "value of the first")
    (made.folder / "platform.toml").write_text("# first\n")
    return made


def change(place):
    place.put("second", "value of the second")
    (place.folder / "platform.toml").write_text("# second\n")
    place.do("rotate-key")
    place.do("rotate-key", "--remove", "1", "--yes")


def staged(cluster):
    return [name for name in sql(cluster, "SELECT datname FROM pg_database") if "staged" in name]


def test_a_backup_comes_back_and_goes_again(place, cluster, tmp_path):
    archive = place.backup("--output", str(tmp_path / "out"))
    was = place.look()
    change(place)
    now = place.look()
    assert was["versions"] == [1] and now["versions"] == [2]
    told = json.loads(place.do("restore", "--archive", str(archive), "--verify-only", "--json"))
    assert told["replaced"] == []
    assert place.look()["versions"] == [2]
    place.do("restore", "--archive", str(archive), "--yes")
    assert place.look() == was
    place.do("restore", "--undo", "--yes")
    assert place.look() == now
    assert staged(cluster) == []
    place.do("restore-drill", "--source", str(tmp_path / "out"))


@pytest.mark.parametrize(
    "point", some_slow(["restore.examined", "swap.journal", "swap.move", "swap.move@2", "swap.moved"], ["swap.move"])
)
def test_f11_killed_at_any_step_there_is_the_old_or_the_new(place, cluster, tmp_path, point):
    archive = place.backup("--output", str(tmp_path / "out"))
    was = place.look()
    change(place)
    now = place.look()
    name, _, nth = point.partition("@")
    killed = place.run("restore", "--archive", str(archive), "--yes", failpoint=f"{name}=kill@{nth or 1}")
    assert killed.returncode == processes.KILLED, killed.stderr
    assert place.look() == (now if point == "restore.examined" else was)


def test_an_older_schema_is_upgraded_by_a_copy(place, cluster):
    place.do("migrate", "monitoring", "0001_initial")
    place.do("migrate", "tenants", "0001_initial")
    told = json.loads(place.do("upgrade", "--json"))
    assert "tenants.0010_usage_and_job_results" in told["migrated"]
    assert place.look()["secrets"] == {"first": "value of the first"}


def test_old_audit_rows_leave_under_a_checkpoint_and_no_others(place, cluster, tmp_path):
    done = place.do("audit-archive", "--output", str(tmp_path / "exports"), "--older-than-days", "0", "--yes", "--json")
    assert json.loads(place.do("audit-verify", "--json"))["ok"]
    assert json.loads(place.do("audit-verify", "--export", json.loads(done)["path"], "--json"))["known"]
    for text in (
        "DELETE FROM audit_log",
        "UPDATE audit_log SET action = 'x'",
        "DELETE FROM audit_checkpoints",
        "TRUNCATE audit_checkpoints",
    ):
        with pytest.raises(subprocess.CalledProcessError):
            sql(cluster, text, place.name)


def test_an_archive_of_another_kind_of_database_is_refused(place, two):
    done = place.run("restore", "--archive", str(two.archive), "--yes", "--json")
    assert json.loads(done.stdout)["error"]["type"] == "archive_database"


def test_maintenance_works_here_too(place):
    place.do("maintenance", "--vacuum")
