"""Group R of the fault catalogue: each item is named by a test; those that no other module tests are tested here."""

from __future__ import annotations

import re
import sqlite3

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from audit.models import AuditEntry
from tenants import configuration, services
from tenants.models import Event, Run
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.states import Reason, RunStatus, Status
from tests.architecture import ROOT
from tests.faults.world import assert_world
from zcplatform.lib.actors import OPERATOR


def named() -> set[int]:
    """The items that stand in the name of a test."""
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {int(number) for number in re.findall(r"^ *(?:async )?def test_r(\d+)_", text, re.MULTILINE)}


def test_every_item_is_named_by_a_test():
    assert set(range(1, 22)) - named() == set()


@pytest.fixture
def locked():
    """Another process holds the database for writing, for longer than anybody waits."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one lock for all writers")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=100")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        yield lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK")
    finally:
        other.close()
        connection.close()


def test_r1_a_database_that_stays_locked_refuses_a_request_whole_and_a_run_goes_on_later(
    transactional_db, locked, request
):
    lock, unlock = locked
    world = request.getfixturevalue("memory_world")
    tenant = world.tenant()
    counts = [model.objects.count() for model in (Run, AuditEntry, Event)]
    lock()
    with pytest.raises(OperationalError):
        services.deploy(actor=OPERATOR, tenant=tenant)
    unlock()
    assert [model.objects.count() for model in (Run, AuditEntry, Event)] == counts, "no half job"
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    lock()
    with pytest.raises(OperationalError):
        execute(run.pk, PROCEDURE)
    unlock()
    world.drive(run)
    assert (run.status, world.fresh(tenant).status) == (RunStatus.SUCCEEDED, Status.RUNNING)


@pytest.fixture
def memory_world(vault_key, settings, monkeypatch, tmp_path):
    from tests.tenants.conftest import World

    settings.HOME = tmp_path
    made = World(settings, monkeypatch)
    yield made
    made.engine.clear()


FAILING = {
    "exits at once": ({"exit_code": 7}, Reason.CRASH_LOOP, "exit code 7"),
    "runs out of memory": ({"never_healthy": True, "leak_mb_per_s": 900}, Reason.OOM_KILLED, "ran out of memory"),
    "never answers": ({"hang": True}, Reason.UNHEALTHY, "did not answer"),
}


@pytest.mark.slow
@pytest.mark.caddy
@pytest.mark.parametrize("how", FAILING)
def test_r16_an_agent_that(world, monkeypatch, how):
    """It ends in ``error`` with its reason and its last words without secrets; made well again, it runs."""
    monkeypatch.setattr("tenants.provisioning.steps.POLL_S", 1.0)
    world.mark()
    faults, reason, detail = FAILING[how]
    tenant = world.draft()
    given = configuration.ConfigInput(extra={"faults": faults})
    configuration.update(actor=OPERATOR, tenant=tenant, given=given)
    run = world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh()
    assert (run.status, tenant.status, tenant.reason) == (RunStatus.FAILED, Status.ERROR, reason), tenant.detail
    assert detail in tenant.detail
    assert_world(world)
    configuration.update(actor=OPERATOR, tenant=tenant, given=configuration.ConfigInput(extra={}))
    for left in tenant.runs.filter(finished_at=None):
        world.drive(left)
    world.drive(services.deploy(actor=OPERATOR, tenant=world.fresh()))
    assert world.fresh().status == Status.RUNNING
    assert_world(world)


def test_r16_the_settings_keep_the_logs_of_an_agent_bounded():
    assert settings.LOG_MAX_FILES * int(settings.LOG_MAX_SIZE.rstrip("m")) <= 150
