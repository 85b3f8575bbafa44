"""The restore drill, the schedule, and what is overdue."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from backups import results
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
