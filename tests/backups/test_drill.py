"""The restore drill, the schedule, and what is overdue."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from audit.models import AuditEntry
from backups import folder, results
from tenants.records import JobResult
from tests.backups.test_backup import job_rows
from tests.commands import manage
from zcplatform import schedules
from zcplatform.lib import clock


def test_the_newest_backup_is_restored_into_a_scratch_place(two):
    two.home.backup()
    before = two.home.tree()
    told = json.loads(two.home.do("restore-drill", "--json"))
    assert told["replaced"] == []
    assert job_rows(two.home)[-1] == ("restore-drill", 1)
    assert {n: c for n, c in two.home.tree().items() if "zcplatform.db" not in n} == {
        n: c for n, c in before.items() if "zcplatform.db" not in n
    }
    assert two.home.look() == two.now


def test_a_backup_that_can_not_be_restored_is_told_and_written_down(two):
    path = two.home.backup()
    path.write_bytes(path.read_bytes()[:-100])
    done = two.home.run("restore-drill", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["type"] == "archive_truncated"
    assert job_rows(two.home)[-1] == ("restore-drill", 0)


def test_without_a_backup_the_drill_fails(db, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path
    done = manage("restore_drill", "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "archive_missing")
    assert JobResult.objects.get().ok is False


def faults():
    return {guard.name: guard.fault for guard in results.guards()}


def test_what_was_never_done_failed_or_is_too_old_is_a_fault(db):
    assert faults() == {"backup": "", "restore-drill": ""}, "it has only just been installed"
    weeks_later = clock.now() + timedelta(days=15)
    with clock.use(lambda: weeks_later):
        assert faults() == {"backup": "has never been done", "restore-drill": "has never been done"}
    for name in (results.BACKUP, results.DRILL):
        results.note(name, ok=True, detail="fine")
    assert faults() == {"backup": "", "restore-drill": ""}
    later = clock.now() + timedelta(hours=27)
    with clock.use(lambda: later):
        assert "more than 26 hours ago" in faults()["backup"]
        assert faults()["restore-drill"] == ""
    results.note_failure(results.BACKUP, "the disk is full")
    assert "the disk is full" in faults()["backup"]


def test_what_is_switched_off_is_no_fault(db, settings):
    settings.BACKUP_CRON = settings.DRILL_CRON = ""
    assert faults() == {}


def test_old_rows_go(db, monkeypatch):
    monkeypatch.setattr(results, "KEPT", 3)
    for number in range(5):
        results.note(results.BACKUP, ok=True, detail=str(number))
    assert list(JobResult.objects.order_by("pk").values_list("detail", flat=True)) == ["2", "3", "4"]


@pytest.mark.parametrize("name", ["backup", "restore-drill", "upkeep"])
def test_the_jobs_are_declared(name):
    assert name in {job.name for job in schedules.PERIODIC}


@pytest.fixture
def scheduled(db, settings, tmp_path):
    settings.BACKUP_DIR, settings.BACKUP_CRON, settings.DRILL_CRON = tmp_path / "own", "0 3 * * *", "0 4 * * 0"
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)  # refused: archives hold keys
    (tmp_path / "none").mkdir()
    return tmp_path


def test_what_fails_in_another_folder_alarms_nobody(scheduled):
    for name in (results.BACKUP, results.DRILL):
        results.note(name, ok=True, detail="fine")
    assert manage("backup", "--output", str(scheduled / "open")).code == 1
    assert manage("restore_drill", "--source", str(scheduled / "none")).code == 1
    assert faults() == {"backup": "", "restore-drill": ""}
    told = AuditEntry.objects.filter(outcome="failed").values_list("action", flat=True)
    assert sorted(told) == ["platform.backup", "platform.drill"]


def test_what_succeeds_in_another_folder_covers_up_no_failure(two):
    """One that fails by the schedule, then one by hand somewhere else: the archives that matter are still not there."""
    own = two.home.folder / "backups"
    own.mkdir(exist_ok=True)
    own.chmod(0o777)
    assert two.home.run("backup").returncode == 1
    two.home.do("backup", "--output", str(two.home.folder.parent / "by-hand"))
    assert job_rows(two.home)[-1] == ("backup", 0)
    own.chmod(0o700)
    two.home.do("backup", "--output", f"{own}/../backups/")  # the same folder by another name
    assert job_rows(two.home)[-1] == ("backup", 1)


def test_where_nothing_is_scheduled_every_folder_counts(scheduled, settings):
    settings.BACKUP_CRON = settings.DRILL_CRON = ""
    manage("backup", "--output", str(scheduled / "open"))
    manage("restore_drill", "--source", str(scheduled / "none"))
    assert set(JobResult.objects.values_list("name", "ok")) == {("backup", False), ("restore-drill", False)}


def test_that_another_backup_is_at_work_is_no_failure(scheduled):
    output = scheduled / "own"
    output.mkdir(mode=0o700)
    with folder.alone(output):
        refused = manage("backup", "--json")
    assert refused.json["error"]["type"] == "backup_in_progress"
    assert not JobResult.objects.exists()
