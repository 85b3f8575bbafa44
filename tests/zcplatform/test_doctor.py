"""``doctor`` on a sound installation, and on one with each fault planted in it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from accounts import rates
from audit.models import AuditEntry
from audit.triggers import install, remove
from monitoring import heartbeats
from monitoring.models import Heartbeat
from tenants.models import Run
from tenants.routing.base import Route, RouterInfo
from tenants.runtimes.agent_user import AgentUser
from tenants.runtimes.base import EngineInfo
from tests import fakes
from tests.commands import manage
from tests.tenants.test_allocation import squatter
from zcplatform import doctor, schedules
from zcplatform.doctor import fleet, host
from zcplatform.lib import clock

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def sound(world, settings, monkeypatch):
    """Bootstrapped, served, with one tenant that runs."""
    for name, mode in host.FOLDERS:
        path = Path(settings.HOME) / name
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    settings.KEYS_DIR.chmod(0o700)
    for path in Path(connection.settings_dict["NAME"]).parent.glob("test.db*"):
        path.chmod(0o600)
    for cluster in heartbeats.CLUSTERS:
        heartbeats.beat(cluster)
    schedules.ensure()
    monkeypatch.setattr(fleet, "router", lambda: world.router)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _path: Usage(100e9, 40e9, 60e9))
    world.acme = world.tenant(deploy=True)
    return world


def found(check):
    """Level, what and todo of everything but what is ok."""
    return [(f.level, f.what, f.todo) for f in doctor.examine() if f.check == check and f.level != "ok"]


def only(check):
    """The one thing that ``check`` finds; no other check finds anything."""
    findings = [f for f in doctor.examine() if f.level != "ok"]
    assert [f.check for f in findings] == [check], findings
    assert findings[0].todo
    return findings[0].level, findings[0].what


def test_a_sound_installation_has_nothing_but_ok(sound):
    findings = doctor.examine()
    assert [f for f in findings if f.level != "ok"] == []
    assert {f.check for f in findings} == {check.name for check in doctor.CHECKS}


def test_doctor_changes_nothing(sound):
    before = AuditEntry.objects.count(), Run.objects.count()
    sound.agents()[0].end()
    doctor.examine()
    assert (AuditEntry.objects.count(), Run.objects.count()) == before


def test_the_command_tells_a_table_and_ends_with_1_at_an_error_alone(sound, settings):
    done = manage("doctor")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "0 errors, 0 warnings"
    Path(settings.HOME).chmod(0o755)
    done = manage("doctor")
    assert done.code == 0, "a warning is no error"
    assert f"! folders    {settings.HOME} has mode 0755, not 0711." in done.out
    assert f"             → Run: chmod 711 {settings.HOME}" in done.out
    Path(settings.HOME).chmod(0o777)
    done = manage("doctor", "--json")
    assert done.code == 1
    assert not done.json["ok"]
    assert {f["level"] for f in done.json["findings"] if f["check"] == "folders"} == {"error"}


# --- the host ---------------------------------------------------------------------------------------------


def test_settings_that_do_not_fit_together(sound, settings):
    settings.ALLOWED_HOSTS = ["*"]
    assert only("settings")[0] == "error"


def test_the_checks_for_deployment_are_made_on_https(sound, settings):
    settings.IS_HTTPS, settings.SESSION_COOKIE_SECURE = True, False
    settings.CSRF_COOKIE_SECURE, settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True, 9, True
    assert "security.W012" in str(found("settings"))
    settings.IS_HTTPS = False
    assert found("settings") == []


@pytest.mark.parametrize("name", ["django.key", "jwt.key", "pepper.key"])
def test_a_key_file_that_others_can_read(sound, settings, name):
    path = settings.KEYS_DIR / name
    path.chmod(0o644)
    try:
        findings = found("keys")
    finally:
        path.chmod(0o600)
    assert [(level, what) for level, what, _ in findings] == [
        ("error", f"{path} has mode 0644; run: chmod 600 {path}"),
    ]


def test_a_folder_of_keys_that_others_can_enter(sound, settings):
    settings.KEYS_DIR.chmod(0o755)
    assert only("keys") == ("error", f"{settings.KEYS_DIR} can be entered by others.")


def test_a_redis_that_does_not_answer(sound, monkeypatch, tmp_path):
    monkeypatch.setattr(rates, "limiter", rates.limiter_on(f"unix://{tmp_path}/redis.sock"))
    level, what = only("redis")
    assert level == "error" and f"{tmp_path}/redis.sock" in what


def test_a_home_that_is_not_there(sound, settings):
    settings.HOME = Path(settings.HOME) / "nowhere"
    assert found("folders") == [("error", f"{settings.HOME} is not there.", "Run: zcplatform bootstrap")]
    assert found("disk") == []


def test_a_folder_that_is_not_there(sound, settings):
    (Path(settings.HOME) / "trash").rmdir()
    assert only("folders") == ("error", f"{settings.HOME}/trash is not there.")


@pytest.mark.parametrize(("used", "level"), [(79, ""), (81, "warning"), (96, "error")])
def test_a_disk_that_fills_up(sound, monkeypatch, used, level):
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _path: Usage(100e9, used * 1e9, (100 - used) * 1e9))
    assert [found_level for found_level, _, _ in found("disk")] == ([level] if level else [])


@pytest.mark.sqlite
@pytest.mark.parametrize("suffix", ["", "-wal", "-turn"])
def test_a_database_that_others_can_read(sound, suffix):
    path = Path(f"{connection.settings_dict['NAME']}{suffix}")
    path.chmod(0o640)
    try:
        assert only("database") == ("error", f"{path} has mode 0640, not 0600.")
    finally:
        path.chmod(0o600)


@pytest.mark.root
@pytest.mark.sqlite
def test_a_turn_file_of_somebody_else(sound, settings):
    """Root made it by hand, say; who can't open it writes all the same, and waits by luck."""
    path = Path(f"{settings.DATABASES['default']['NAME']}-turn")
    path.touch()
    os.chown(path, 12_345, 12_345)
    try:
        mine = Path(settings.HOME).stat().st_uid
        assert only("owners") == ("error", f"{path} belongs to uid 12345, the home to uid {mine}.")
    finally:
        os.chown(path, 0, 0)


def test_a_database_that_is_not_migrated_is_one_fault_and_not_ten(sound, monkeypatch):
    monkeypatch.setattr(host.startup, "unapplied_migrations", lambda: "Unapplied migrations: tenants.0002_more.")
    assert only("database") == ("error", "Unapplied migrations: tenants.0002_more.")
    assert {f.check for f in doctor.examine()} == {check.name for check in doctor.CHECKS if not check.needs_rows}


@pytest.mark.sqlite
def test_a_damaged_database(sound, tmp_path, monkeypatch):
    """A real one: a page of a copy is overwritten, and the copy is looked at."""
    copy = tmp_path / "copy.db"
    with sqlite3.connect(copy) as target:
        connection.connection.backup(target)
    target.close()
    with copy.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    copy.chmod(0o600)
    damaged = connection.copy()
    damaged.settings_dict["NAME"] = str(copy)
    monkeypatch.setattr(host.startup, "connection", damaged)
    level, what, _ = found("database")[0]
    damaged.close()
    assert level == "error"
    assert what.startswith("The database is damaged: ")


@pytest.mark.parametrize("whose", ["_database_time", "_disk_time"])
def test_clocks_that_do_not_agree(sound, monkeypatch, whose):
    real = getattr(host, whose)
    monkeypatch.setattr(host, whose, lambda: real() + timedelta(seconds=90))
    level, what = only("clock")
    assert level == "warning"
    assert "90 s off" in what or "89 s off" in what


def test_a_clock_that_went_back(sound):
    then = clock.now() - timedelta(hours=2)
    with clock.use(lambda: then):
        assert "the clock went back" in str(found("clock"))


def test_a_vault_key_that_is_not_this_databases(sound, settings, tmp_path):
    kept = tmp_path / "kept.json"
    shutil.move(settings.VAULT_KEY_FILE, kept)
    try:
        findings = found("vault")
    finally:
        shutil.move(kept, settings.VAULT_KEY_FILE)
    assert [level for level, _, _ in findings] == ["error"]


def test_a_row_of_the_audit_that_was_changed(sound):
    remove(connection)
    try:
        AuditEntry.objects.filter(pk=2).update(actor_email="somebody@example.test")
    finally:
        install(connection)
    level, what = only("audit")
    assert (level, what) == ("error", "row 2 was altered: its hash does not fit its content")


# --- what runs ----------------------------------------------------------------------------------------------


def test_an_engine_that_does_not_answer_is_told_once(sound):
    sound.use("DownRuntime")
    assert only("engine") == ("error", "Node fake: The engine does not answer.")


def test_a_node_that_is_disabled_is_left_alone(sound):
    sound.use("DownRuntime")
    sound.acme.node.state = "disabled"
    sound.acme.node.save()
    assert found("engine") == []


def docker_info(version="29.3.1", **detail):
    return EngineInfo("docker", version, {"storage_driver": "overlay2", "warnings": [], **detail})


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (docker_info(), ""),
        (docker_info("30.0.0"), ""),
        (docker_info("29.3.0"), "Docker 29.3.0 has known holes"),
        (docker_info("20.10.24+dfsg1"), "Docker 20.10.24+dfsg1 has known holes"),
        (docker_info(storage_driver="vfs"), "storage driver vfs"),
        (docker_info(warnings=["WARNING: No swap limit support"]), "No swap limit support"),
    ],
)
def test_what_an_engine_says_of_itself(sound, monkeypatch, info, said):
    monkeypatch.setattr(fakes.FakeRuntime, "check", lambda _self: info)
    findings = found("engine")
    assert [level for level, _, _ in findings] == (["warning"] if said else [])
    assert said in str(findings)


@pytest.mark.parametrize(("allowed", "level"), [(True, "warning"), (False, "error")])
def test_agents_that_share_the_platforms_user(sound, monkeypatch, allowed, level):
    user = AgentUser(own=False, allowed=allowed, closed=("/srv/closed", "/srv/closed/too"))
    detail = {"agents_run_as": "caller", "allowed": allowed, "why": user.why, "todo": user.todo}
    monkeypatch.setattr(fakes.FakeRuntime, "check", lambda _self: EngineInfo("process", "6.1", detail))
    (found_level, what, todo), *_ = found("engine")
    assert (found_level, "/srv/closed and /srv/closed/too are closed to others" in what) == (level, True)
    assert todo.startswith("Let others pass through: chmod o+x /srv/closed /srv/closed/too")  # all of it, in one go
    assert ("ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS" in todo) == (not allowed)  # no flag is advised that is set already


def test_a_router_that_does_not_answer(sound, monkeypatch):
    monkeypatch.setattr(fleet, "router", fakes.DownRouter)
    assert only("router") == ("error", "The router does not answer.")


@pytest.mark.parametrize(("version", "cuts"), [("2.6.2", True), ("2.10.9", True), ("2.11.0", False), ("", False)])
def test_a_caddy_that_cuts_streams(sound, monkeypatch, version, cuts):
    monkeypatch.setattr(sound.router, "check", lambda: RouterInfo("caddy", version))
    assert ("cuts open streams" in str(found("router"))) == cuts


def test_routes_that_differ_from_the_database(sound):
    sound.router.routes.clear()
    sound.router.routes["x"] = Route("x", "stranger", 1, ())
    assert only("router") == ("warning", "2 routes not as the database says: route_missing, route_unknown.")


def test_an_agent_that_went_down(sound):
    sound.agents()[0].end()
    assert only("agents") == ("warning", "acme: agent_down")


def test_an_agent_of_nobody(sound):
    mine = sound.agents()[0]
    spec = dataclasses.replace(mine.spec, tenant="6f1c8b52-0000-4000-8000-000000000000", name="zctest-orphan")
    sound.engine.agents["zctest-orphan"] = fakes.FakeAgent(spec, dataclasses.replace(mine.handle, name="zctest-orphan"))
    level, what = only("agents")
    assert level == "error"
    assert "zctest-orphan" in what


def test_an_agent_with_other_limits_than_its_plan_allows(sound):
    agent = sound.agents()[0]
    agent.spec = dataclasses.replace(agent.spec, memory_mb=64_000)
    findings = found("hardening")
    assert [(level, what) for level, what, _ in findings] == [("error", "acme: memory_mb is 64000, not 1024")]


def test_workers_that_are_silent(sound):
    Heartbeat.objects.filter(name="sweeps").update(beat_at=clock.now() - timedelta(minutes=2))
    assert only("workers") == ("error", "The workers of sweeps gave no sign of life for 30 s.")


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"status": "parked", "reason": "waiting_for_engine", "created_at": 61}, "warning"),
        ({"status": "parked", "created_at": 59}, ""),
        ({"status": "running", "created_at": 5, "lease_until": 3}, "error"),
        ({"status": "running", "created_at": 99, "lease_until": 3}, "error"),
        ({"status": "running", "created_at": 5, "lease_until": 1}, ""),
        ({"status": "succeeded", "created_at": 99, "lease_until": 99}, ""),
    ],
)
def test_runs_that_do_not_end(sound, fields, level):
    """The numbers are minutes ago."""
    ago = {name: clock.now() - timedelta(minutes=value) for name, value in fields.items() if isinstance(value, int)}
    Run.objects.filter(tenant=sound.acme).update(**{**fields, **ago})
    assert [found_level for found_level, _, _ in found("runs")] == ([level] if level else [])


def test_a_check_that_breaks_does_not_keep_the_others_from_being_made(sound, monkeypatch):
    def broken():
        raise RuntimeError("out of cheese")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (doctor.Check("odd", "fine", broken), *doctor.CHECKS))
    assert only("odd") == ("error", "could not be looked at: RuntimeError: out of cheese")


def test_versions_are_compared_as_numbers():
    assert fleet._older("2.9", (2, 11))
    assert not fleet._older("10.0", (2, 11))
    assert not fleet._older("unknown", (2, 11))


def test_mail_that_waits_for_long(sound):
    from django.db import transaction

    from accounts import mail
    from accounts.letters import Letter
    from accounts.models import Mail

    with transaction.atomic():
        mail.queue("dana@example.com", Letter("S", "T", ""))
    assert found("mail") == []
    Mail.objects.update(created_at=clock.now() - timedelta(minutes=5), error="The mail server does not answer.")
    level, what = only("mail")
    assert level == "error"
    assert what.startswith("The oldest mail has waited 30")
    assert what.endswith("does not answer.")


@pytest.mark.root
def test_an_agent_that_listens_where_another_would_is_named(sound):
    node = sound.node()
    with squatter(sound.acme.uid, node.port_last - 4, node.port_last):
        level, what = only("ports")
    assert level == "error"
    assert f"({sound.acme.slug}) listens at 5 ports not its own, such as {node.port_last - 4}" in what
    assert found("ports") == []


def test_a_task_that_hangs_is_named(sound):
    heartbeats.note_late(["tenants.tasks.reconcile_sweep"])
    assert only("workers")[0] == "error"
