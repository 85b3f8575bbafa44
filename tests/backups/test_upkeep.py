"""Maintenance: the log is written back, free pages go, leftovers go, and what may be somebody's stays."""

from __future__ import annotations

import os
import time
import uuid

import pytest
from django.db import connection

from audit.models import AuditEntry
from backups import upkeep
from tenants.states import Status
from tests.commands import manage
from tests.factories import NodeFactory, TenantFactory

OLD = time.time() - 30 * 86_400


@pytest.fixture
def home(settings, tmp_path):
    settings.HOME, settings.KEYS_DIR = tmp_path, tmp_path / "keys"
    for name in ("keys", "tenants", "trash", "restore"):
        (tmp_path / name).mkdir()
    return tmp_path


def aged(path, *, folder=False):
    path.mkdir() if folder else path.write_text("x")
    os.utime(path, (OLD, OLD))
    return path


def test_leftovers_of_killed_acts_go_and_young_ones_stay(db, home):
    gone = [aged(home / ".instance.id.12345678.tmp"), aged(home / "keys" / ".vault.json.12345678.tmp")]
    beside = home / ".platform.toml.new-12345678"
    beside.write_text("x")
    staged = home / "restore" / "staged-12345678"
    staged.mkdir()
    young = home / "keys" / ".vault.json.87654321.tmp"
    young.write_text("x")
    told = upkeep.clean(home)
    assert not any(path.exists() for path in (*gone, staged))
    assert young.exists()
    assert told["temporary"] == 2


def test_trash_that_no_row_waits_for_goes_when_it_is_old(db, home):
    node = NodeFactory()
    waiting = TenantFactory(node=node, status=Status.DELETED)
    kept = aged(home / "trash" / str(waiting.public_id), folder=True)
    other = aged(home / "trash" / "not-a-tenant", folder=True)
    gone = aged(home / "trash" / str(uuid.uuid4()), folder=True)
    young = home / "trash" / str(uuid.uuid4())
    young.mkdir()
    assert upkeep.clean(home)["trash"] == 1
    assert not gone.exists()
    assert kept.exists() and other.exists() and young.exists()


def test_a_folder_of_nobody_is_told_and_left(db, home):
    mine = TenantFactory()
    (home / "tenants" / str(mine.public_id)).mkdir()
    nobodys = aged(home / "tenants" / str(uuid.uuid4()), folder=True)
    assert upkeep.folders_of_nobody(home) == [nobodys]
    upkeep.clean(home)
    assert nobodys.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's log")
def test_the_log_is_written_back_and_free_pages_go(home):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ballast (data BLOB)")
        cursor.executemany("INSERT INTO ballast VALUES (randomblob(100000))", [()] * 50)
        cursor.execute("DROP TABLE ballast")
    done = manage("maintenance", "--vacuum", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["log_written_back"] is True
    assert told["bytes_before"] - told["bytes_after"] > 4_000_000
    assert AuditEntry.objects.filter(action="platform.upkeep").count() == 1
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        assert cursor.fetchone()[0] == "ok"


@pytest.mark.django_db(transaction=True)
def test_it_tells_in_words(home):
    done = manage("maintenance")
    assert done.code == 0
    assert "0 leftovers removed" in done.out
