"""``doctor`` on what guards the installation and on how it looks from outside, each fault planted."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django_q.models import Schedule

from backups import results
from tenants.records import JobResult
from tests.zcplatform.test_doctor import found, only, sound
from zcplatform import schedules
from zcplatform.doctor import host, outside, safety
from zcplatform.lib import clock, swap
from zcplatform.lib.swap import Move

__all__ = ["sound"]


@pytest.fixture
def guarded(sound, settings, tmp_path):
    """Sound, with a backup of this hour and a drill of today."""
    settings.BACKUP_DIR = tmp_path / "backups"
    settings.BACKUP_DIR.mkdir(mode=0o700)
    archive = settings.BACKUP_DIR / "zcplatform-backup-2030-01-01-030000.tar.gz"
    archive.write_text("x")
    archive.chmod(0o600)
    for name in (results.BACKUP, results.DRILL):
        results.note(name, ok=True, detail="fine")
    assert found("backups") == []
    return sound


# --- backups ------------------------------------------------------------------------------------------------


def test_a_backup_that_failed(guarded):
    results.note(results.BACKUP, ok=False, detail="storage_full: no room")
    level, what = only("backups")
    assert level == "warning"
    assert what.startswith("The backup failed on ")
    assert "no room" in what


def test_a_backup_that_is_overdue(guarded):
    JobResult.objects.filter(name=results.BACKUP).update(at=clock.now() - timedelta(hours=27))
    assert "more than 26 hours ago" in only("backups")[1]


def test_a_drill_that_failed(guarded):
    results.note(results.DRILL, ok=False, detail="archive_truncated: cut off")
    assert only("backups")[1].startswith("The restore drill failed on ")


def test_a_drill_that_is_overdue(guarded):
    JobResult.objects.filter(name=results.DRILL).update(at=clock.now() - timedelta(hours=193))
    assert only("backups")[1].startswith("The restore drill was last done on ")


def test_backups_that_are_switched_off(guarded, settings):
    settings.BACKUP_CRON = ""
    assert only("backups") == ("warning", "No backups are scheduled.")


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_of_backups_that_is_open(guarded, settings, mode):
    settings.BACKUP_DIR.chmod(mode)
    level, what = only("backups")
    assert (level, what) == ("error", f"{settings.BACKUP_DIR} is open to others, and archives hold keys.")


def test_an_archive_that_others_can_read(guarded, settings):
    path = next(settings.BACKUP_DIR.iterdir())
    path.chmod(0o644)
    assert only("backups") == ("error", f"{path} can be read by others.")


def test_archives_that_vanished(guarded, settings):
    shutil.rmtree(settings.BACKUP_DIR)
    settings.BACKUP_DIR.mkdir(mode=0o700)
    assert "holds none" in only("backups")[1]


# --- the queue's table ----------------------------------------------------------------------------------------


def test_a_periodic_job_that_is_missing(sound):
    Schedule.objects.get(name="zcplatform.backup").delete()
    assert only("schedules") == ("error", "The periodic job backup is not in the queue's table.")


def test_a_periodic_job_that_was_changed(sound):
    Schedule.objects.filter(name="zcplatform.reconcile-sweep").update(cron="5 5 5 5 *")
    assert "reconcile-sweep differs" in only("schedules")[1]


def test_a_periodic_job_that_is_declared_no_longer(sound):
    Schedule.objects.create(name="zcplatform.ancient", func="x.y", schedule_type=Schedule.CRON, cron="* * * * *")
    assert only("schedules") == ("warning", "The periodic job zcplatform.ancient is declared no longer.")


# --- leftovers ------------------------------------------------------------------------------------------------


def test_the_state_before_a_restore(sound, settings):
    home = Path(settings.HOME)
    (home / "a").write_text("old")
    (home / "a.new").write_text("new")
    swap.perform(home, [Move(str(home / "a"), str(home / "a.new"), str(home / "a.old"))])
    assert only("leftovers") == ("warning", "The state before the last restore is still kept, in 1 file.")
    swap.forget(home)
    assert found("leftovers") == []


def test_a_file_that_something_killed_left(sound, settings):
    path = Path(settings.HOME) / ".instance.id.0badcafe.tmp"
    path.write_text("x")
    os.utime(path, (time.time() - 7_200,) * 2)
    assert only("leftovers") == ("warning", f"{path} was left by something that was killed.")


def test_a_folder_of_no_tenant(sound, settings):
    path = Path(settings.HOME) / "tenants" / str(uuid.uuid4())
    path.mkdir()
    assert only("leftovers") == ("warning", f"{path} belongs to no tenant.")


def test_trash_that_nobody_empties(sound, settings):
    path = Path(settings.HOME) / "trash" / str(uuid.uuid4())
    path.mkdir()
    assert found("leftovers") == []
    os.utime(path, (time.time() - 20 * 86_400,) * 2)
    assert only("leftovers") == ("warning", f"{path} has been in the trash for too long.")


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's log")
def test_a_log_that_only_grows(sound, monkeypatch):
    monkeypatch.setattr(safety, "WAL_WARN_BYTES", -1)
    level, what = only("leftovers")
    assert (level, what.startswith("The write-ahead log has ")) == ("warning", True)
    assert Path(f"{connection.settings_dict['NAME']}-wal").exists()


# --- owners and versions --------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("name", ["trash", "keys/django.key", "keys/vault.json"])
def test_something_that_belongs_to_somebody_else(sound, settings, name):
    path = Path(settings.HOME) / name if name == "trash" else settings.KEYS_DIR / Path(name).name
    before = path.stat()
    os.chown(path, 12_345, 12_345)
    try:
        findings = [what for _, what, _ in found("owners")]
    finally:
        os.chown(path, before.st_uid, before.st_gid)
    assert findings == [f"{path} belongs to uid 12345, the home to uid {before.st_uid}."]


def test_a_database_of_a_later_version(sound):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('vault', '9999_x', '2030-01-01')")
    level, what = only("database")
    assert level == "error"
    assert what.startswith("The database is newer than this installation: vault is at 9999_x")


# --- from outside ----------------------------------------------------------------------------------------------


@pytest.fixture
def published(sound, settings, monkeypatch):
    """Under real names; ``records`` says where each leads."""
    settings.DOMAIN, settings.ROUTER = "agents.example.test", "caddy"
    settings.PUBLIC_BASE_URL = "http://agents.example.test"
    records = {"agents.example.test": {"192.0.2.1"}, "zcplatform-doctor.agents.example.test": {"192.0.2.1"}}
    monkeypatch.setattr(outside, "_addresses", lambda name: records.get(name, set()))
    return records


def names():
    return [(level, what) for level, what, _ in outside.names()]


def test_names_that_lead_here_are_fine(published):
    assert names() == []


def test_a_domain_that_does_not_resolve(published):
    del published["agents.example.test"]
    assert names() == [("error", "agents.example.test does not resolve.")]


def test_a_wildcard_that_does_not_resolve(published):
    del published["zcplatform-doctor.agents.example.test"]
    assert names() == [("error", "*.agents.example.test does not resolve.")]


def test_a_wildcard_that_leads_elsewhere(published):
    published["zcplatform-doctor.agents.example.test"] = {"192.0.2.99"}
    assert names() == [("warning", "*.agents.example.test leads elsewhere than agents.example.test.")]


def test_names_of_this_machine_are_not_looked_up(sound, settings, monkeypatch):
    monkeypatch.setattr(outside, "_addresses", lambda name: pytest.fail(name))
    settings.ROUTER = "caddy"
    assert names() == []


def test_a_name_that_is_none_has_no_address():
    assert outside._addresses("no-such-name.invalid") == set()
    assert "127.0.0.1" in outside._addresses("127.0.0.1")


@pytest.fixture
def served(sound, settings, monkeypatch, tmp_path):
    """A real TLS server whose certificate is good for ``days``; its maker is trusted where ``trusted``."""
    settings.IS_HTTPS = True
    settings.PUBLIC_BASE_URL = "https://localhost:1"

    @contextmanager
    def act(days, *, trusted=True, name="localhost"):
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
             "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listener = socket.create_server(("localhost", 0))
        thread = threading.Thread(target=answer_once, args=(listener, context), daemon=True)
        thread.start()
        settings.PUBLIC_BASE_URL = f"https://localhost:{listener.getsockname()[1]}"
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        try:
            yield
        finally:
            listener.close()
            thread.join(10)

    return act


def answer_once(listener, context):
    try:
        plain, _ = listener.accept()
        with plain, context.wrap_socket(plain, server_side=True) as tls:
            tls.recv(1)
    except OSError:
        pass


def certificate():
    return [(level, what) for level, what, _ in outside.certificate()]


def test_a_good_certificate(served):
    with served(90):
        assert certificate() == []


def test_a_certificate_that_expires_soon(served):
    with served(5):
        assert certificate() == [("warning", "The certificate of localhost expires in 4 days.")]


def test_a_certificate_that_nobody_trusts(served):
    with served(90, trusted=False):
        ((level, what),) = certificate()
    assert (level, what.startswith("The certificate of localhost is not accepted")) == ("error", True)


def test_a_certificate_of_another_name(served):
    with served(90, name="other.example.test"):
        ((level, what),) = certificate()
    assert level == "error"
    assert "not accepted" in what


def test_a_public_address_that_nobody_answers(served):
    ((level, what),) = certificate()
    assert (level, what.startswith("localhost can't be reached by https")) == ("error", True)


def test_plain_http_has_no_certificate(sound, settings, monkeypatch):
    monkeypatch.setattr(outside, "_valid_until", lambda *_: pytest.fail("asked"))
    assert not settings.IS_HTTPS
    assert certificate() == []


def test_every_periodic_job_is_looked_at(sound):
    Schedule.objects.filter(name__startswith=schedules.PREFIX).delete()
    assert len(found("schedules")) == len(schedules.PERIODIC)


def test_folders_has_the_homes_own(sound):
    assert {name for name, _ in host.FOLDERS} == {".", "tenants", "trash", "run"}
