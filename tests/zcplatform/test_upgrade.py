"""``upgrade``, and what a start says about a database that is older, newer, damaged or gone. All real."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from backups import folder
from tests import processes
from tests.backups.place import Place, some_slow

SINCE = "0001_initial"


@pytest.fixture(scope="session")
def old_mould(tmp_path_factory):
    """An installation as an earlier version left it, with one secret."""
    place = Place(tmp_path_factory.mktemp("zcu") / "home").bootstrap()
    place.put("first", "value of the first")
    (place.folder / "platform.toml").write_text("")
    for argv in (("monitoring", SINCE), ("tenants", SINCE)):
        place.do("migrate", *argv)
    return place


@pytest.fixture
def old(old_mould, tmp_path):
    return old_mould.copied(tmp_path / "home")


def applied(place):
    with closing(sqlite3.connect(place.folder / "zcplatform.db")) as database:
        return {row[0] for row in database.execute("SELECT name FROM django_migrations WHERE app = 'tenants'")}


def backups(place):
    return folder.archives(place.folder / "backups")


def test_it_backs_up_migrates_a_copy_and_swaps(old):
    assert "0010_usage_and_job_results" not in applied(old)
    told = json.loads(old.do("upgrade", "--json"))
    assert "tenants.0010_usage_and_job_results" in told["migrated"]
    assert [str(path) for path in backups(old)] == [told["backup"]]
    assert "0010_usage_and_job_results" in applied(old)
    assert old.look()["secrets"] == {"first": "value of the first"}
    with closing(sqlite3.connect(old.folder / "zcplatform.db")) as database:
        details = database.execute("SELECT detail_json FROM audit_log WHERE action = 'platform.restore'").fetchall()
    assert "upgrade" in details[0][0]
    again = json.loads(old.do("upgrade", "--json"))
    assert again == {"backup": "", "migrated": []}


def test_it_can_be_undone_until_the_next_healthy_start(old):
    old.do("upgrade")
    old.do("restore", "--undo", "--yes")
    assert "0010_usage_and_job_results" not in applied(old)


@pytest.mark.parametrize(
    "point",
    some_slow(
        ["upgrade.backed_up", "restore.examined", "swap.journal", "swap.move@4", "upgrade.swapped"], ["swap.move@4"]
    ),
)
def test_killed_anywhere_the_schema_is_the_old_or_the_new_one(old, point):
    name, _, nth = point.partition("@")
    assert old.run("upgrade", failpoint=f"{name}=kill@{nth or 1}").returncode == processes.KILLED
    old.do("upgrade")
    assert "0010_usage_and_job_results" in applied(old)
    assert old.look()["secrets"] == {"first": "value of the first"}


def test_r20_a_migration_that_fails_half_way_changes_nothing(old):
    """The table that it would make is there already, with a row in it."""
    with closing(sqlite3.connect(old.folder / "zcplatform.db")) as database:
        database.execute("CREATE TABLE usage_metrics (x INTEGER)")
        database.execute("INSERT INTO usage_metrics VALUES (1)")
        database.commit()
    before = old.tree()["zcplatform.db"]
    done = old.run("upgrade", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["type"] == "archive_database_damaged"
    assert old.tree()["zcplatform.db"] == before
    assert len(backups(old)) == 1
    served = old.run("serve", "--port", "18986")
    assert served.returncode == 2
    assert "Unapplied migrations" in served.stderr
    assert "zcplatform upgrade" in served.stderr


def test_checks_that_fail_afterwards_bring_the_earlier_state_back(old):
    old.env["ZCPLATFORM_ALLOWED_HOSTS"] = "*"
    done = old.run("upgrade", "--json")
    assert json.loads(done.stdout)["error"]["type"] == "upgrade_failed"
    assert "0010_usage_and_job_results" not in applied(old)


def test_bootstrap_makes_a_backup_before_it_migrates(old):
    old.bootstrap()
    assert len(backups(old)) == 1
    assert "0010_usage_and_job_results" in applied(old)
    old.bootstrap()
    assert len(backups(old)) == 1


def refused(place):
    done = place.run("serve", "--port", "18986")
    assert done.returncode == 2
    return done.stderr


def test_a_database_of_a_later_version_is_not_served(old):
    old.do("upgrade")
    with closing(sqlite3.connect(old.folder / "zcplatform.db")) as database:
        database.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('vault', '9999_later', '2030-01-01')"
        )
        database.commit()
    assert "vault is at 9999_later there, and this code knows" in refused(old)
    assert json.loads(old.run("upgrade", "--json").stdout)["error"]["type"] == "database_newer"


def test_r3_a_damaged_database_is_not_served_and_the_newest_backup_is_named(old):
    old.do("upgrade")
    path = old.folder / "zcplatform.db"
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 9] = b"\xff" * 4096 * 6
    path.write_bytes(bytes(content))
    said = refused(old)
    assert "The database is lost" in said
    assert str(backups(old)[-1]) in said


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("touch", "backup", "rotate-key", "restore-drill")]


@pytest.mark.parametrize("first", ["", "doctor", *OTHERS])
def test_r3_a_database_that_is_gone_is_never_begun_anew(old, first):
    """Whatever was called first: SQLite makes an empty file for who opens one that is not there."""
    old.do("upgrade")
    path = old.folder / "zcplatform.db"
    path.unlink()
    if first == "touch":
        path.touch()
    elif first:
        assert old.run(first).returncode == 1
        assert not path.exists()
        assert len(backups(old)) == 1
    assert "It is not there" in refused(old)
    done = old.run("bootstrap", "--admin-email", "ops@example.test")
    assert done.returncode == 1
    assert "restore a backup" in done.stderr
    assert json.loads(old.run("upgrade", "--json").stdout)["error"]["type"] == "database_lost"
    assert f"The newest backup is {backups(old)[-1]}" in old.run("doctor").stdout
    old.do("restore", "--archive", str(backups(old)[-1]), "--yes")
    assert old.look()["secrets"] == {"first": "value of the first"}


COMMANDS = ["audit-verify", "backup", "ensure-schedules", "login-link ops@example.test", "maintenance", "reconcile"]
COMMANDS += ["restore-drill", "rotate-key", "rotate-key --status", "second-factor ops@example.test", "start acme"]


@pytest.mark.parametrize("command", some_slow(COMMANDS, ["maintenance", "rotate-key"]))
def test_no_command_leaves_a_file_where_the_database_was(old, command):
    database = old.folder / "zcplatform.db"
    for path in old.folder.glob("zcplatform.db*"):
        path.unlink()
    done = old.run(*command.split())
    assert done.returncode == 1, done.stdout
    assert done.stderr.splitlines()[-1].startswith("CommandError: "), done.stderr
    assert not database.exists()


def test_the_first_bootstrap_makes_the_database_and_the_next_does_not(tmp_path):
    place = Place(tmp_path / "home").bootstrap()
    (place.folder / "zcplatform.db").unlink()
    done = place.run("bootstrap", "--admin-email", "ops@example.test")
    assert (done.returncode, (place.folder / "zcplatform.db").exists()) == (1, False), done.stderr
