"""Rows leave the audit only under a checkpoint, and what is left still proves what was there."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction

from audit import archiving
from audit.models import AuditEntry, Checkpoint
from audit.services import record, verify_chain
from tests import processes
from tests.commands import manage
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, InvalidField, Misconfigured

pytestmark = pytest.mark.django_db


def write(count=5, days_ago=0):
    then = clock.now() - timedelta(days=days_ago)
    with clock.use(lambda: then), transaction.atomic():
        for number in range(count):
            record("tenant.update", actor=OPERATOR, tenant=f"t{number}", detail={"at": days_ago})


def archive(folder, days=30):
    return archiving.archive(before=clock.now() - timedelta(days=days), output=folder, actor=OPERATOR)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "exports"


@pytest.fixture
def old_and_new(out):
    write(6, days_ago=100)
    write(3)
    return out


def test_old_rows_leave_and_the_chain_goes_on_after_them(old_and_new):
    before = verify_chain()
    made = archive(old_and_new)
    assert (made.first_id, made.last_id) == (1, 6)
    assert Path(made.path).stat().st_mode & 0o777 == 0o600
    assert list(AuditEntry.objects.order_by("id").values_list("id", flat=True)) == [7, 8, 9, 10]
    after = verify_chain()
    assert (after.count, after.fault) == (4, None)
    assert verify_chain(before.head).fault is None
    write(1)
    assert verify_chain().fault is None


def test_the_export_proves_itself_and_is_known(old_and_new):
    head = verify_chain().head
    made = archive(old_and_new)
    verdict, known = archiving.verify_export(Path(made.path))
    assert (verdict.count, verdict.fault, known) == (6, None, True)
    assert verdict.head.hash == Checkpoint.objects.get().last_hash
    assert verify_chain(head).fault is None


def test_archiving_again_goes_on_where_the_last_one_ended(old_and_new):
    first = archive(old_and_new)
    second = archive(old_and_new, days=0)
    assert (second.first_id, second.last_id) == (7, 10)
    assert verify_chain().fault is None
    for made in (first, second):
        assert archiving.verify_export(Path(made.path))[0].fault is None
    assert AuditEntry.objects.count() == 1


def test_nothing_old_is_nothing_to_archive(out):
    write(3)
    with pytest.raises(Conflict) as error:
        archive(out)
    assert error.value.type == "nothing_to_archive"


def test_an_old_head_of_the_archived_part_is_accepted_and_a_false_one_at_its_end_is_not(old_and_new):
    archive(old_and_new)
    last = Checkpoint.objects.get()
    assert verify_chain(archiving.Head(last.last_id, last.last_hash)).fault is None
    assert verify_chain(archiving.Head(last.last_id, "f" * 64)).fault.kind == "altered"


def test_what_no_checkpoint_covers_can_not_be_deleted(old_and_new):
    archive(old_and_new)
    for rows in (AuditEntry.objects.all(), AuditEntry.objects.filter(id=7)):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEntry.objects.filter(id=8).update(action="tenant.delete")


def test_a_checkpoint_can_not_be_changed_or_deleted(old_and_new):
    archive(old_and_new)
    with pytest.raises(IntegrityError), transaction.atomic():
        Checkpoint.objects.update(last_id=9)
    with pytest.raises(IntegrityError), transaction.atomic():
        Checkpoint.objects.all().delete()


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="INSERT OR REPLACE is SQLite's")
def test_a_checkpoint_can_not_be_replaced(old_and_new):
    archive(old_and_new)
    text = "INSERT OR REPLACE INTO audit_checkpoints SELECT * FROM audit_checkpoints"
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(text)


def test_a_checkpoint_that_the_chain_does_not_vouch_for_is_found(old_and_new):
    """Somebody makes a checkpoint by hand to be allowed to delete: the chain has no row that says so."""
    row = AuditEntry.objects.get(id=6)
    Checkpoint.objects.create(
        created_at=clock.now(), first_id=1, last_id=6, previous_hash="0" * 64, last_hash=row.hash, file_name="x"
    )
    AuditEntry.objects.filter(id__lte=6).delete()
    fault = verify_chain().fault
    assert (fault.kind, fault.row) == ("removed", 6)


def test_a_broken_chain_stays_whole(old_and_new, raw):
    raw("UPDATE audit_log SET actor_email = 'x' WHERE id = 2")
    with pytest.raises(Conflict) as error:
        archive(old_and_new)
    assert error.value.type == "audit_broken"
    assert AuditEntry.objects.count() == 9
    assert not old_and_new.exists()


def test_a_folder_that_others_can_read_is_refused(old_and_new):
    old_and_new.mkdir()
    old_and_new.chmod(0o755)
    with pytest.raises(Misconfigured) as error:
        archive(old_and_new)
    assert error.value.type == "loose_folder"


def lines_of(path):
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:2], lines[2].replace(b"t1", b"t7"), *lines[3:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: lines[:-1],
        lambda lines: [lines[0].replace(b'"first_id":1', b'"first_id":2'), *lines[1:]],
        lambda lines: [b"{}\n"],
        lambda lines: [],
    ],
)
def test_an_export_that_was_changed_is_refused(old_and_new, change):
    path = Path(archive(old_and_new).path)
    path.write_bytes(gzip.compress(b"".join(change(lines_of(path)))))
    with pytest.raises(InvalidField) as error:
        archiving.verify_export(path)
    assert error.value.type == "bad_export"


def test_the_commands_archive_and_verify(old_and_new, tmp_path):
    assert manage("audit_archive", "--output", str(old_and_new), "--older-than-days", "30").code == 2
    done = manage("audit_archive", "--output", str(old_and_new), "--older-than-days", "30", "--yes", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert manage("audit_verify").code == 0
    checked = json.loads(manage("audit_verify", "--export", told["path"], "--json").out)
    assert (checked["ok"], checked["known"], checked["count"]) == (True, True, 6)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["audit.archive.exported", "audit.archive.deleted"])
def test_killed_in_between_the_rows_are_there_and_the_next_call_goes_on(old_and_new, point):
    assert processes.run(lambda: archive(old_and_new), f"{point}=kill") == processes.KILLED
    assert AuditEntry.objects.count() == 9
    assert not Checkpoint.objects.exists()
    assert verify_chain().fault is None
    made = archive(old_and_new)
    assert [path.name for path in old_and_new.iterdir()] == [Path(made.path).name]
    assert verify_chain().fault is None
