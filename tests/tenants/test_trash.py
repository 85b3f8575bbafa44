"""The trash: each folder goes once, when its time has come, whatever the others do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit.models import AuditEntry
from tenants import trash
from tenants.folders import DirectFolders
from tenants.models import Tenant
from tests.factories import NodeFactory, TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.errors import RunFailed

pytestmark = pytest.mark.django_db


@pytest.fixture
def deleted(settings, tmp_path):
    settings.HOME, settings.TRASH_DAYS = tmp_path, 7

    def make(*, days: float, status: str = "deleted", node=None) -> Tenant:
        when = clock.now() - timedelta(days=days)
        tenant = TenantFactory(status=status, deleted_at=when, node=node or NodeFactory())
        (tenant.trash / "data").mkdir(parents=True)
        return tenant

    return make


def purges() -> list[tuple[str, str]]:
    rows = AuditEntry.objects.filter(action="tenant.purge").order_by("id")
    return list(rows.values_list("resource_name", "outcome"))


def test_the_old_go_and_the_young_and_the_living_stay(deleted):
    old, young, alive = deleted(days=7.1), deleted(days=6.9), deleted(days=30, status="stopped")
    assert trash.purge_old() == 1
    assert [t.trash.exists() for t in (old, young, alive)] == [False, True, True]
    for tenant in (old, young, alive):
        tenant.refresh_from_db()
    assert [t.purged_at is not None for t in (old, young, alive)] == [True, False, False]
    assert purges() == [(old.slug, "ok")]
    entry = AuditEntry.objects.get(action="tenant.purge")
    assert (entry.tenant_id, entry.actor_id) == (str(old.public_id), "system")


@pytest.mark.parametrize("error", [RunFailed("no", type="folder_failed"), PermissionError(13, "no")])
def test_a_bad_folder_does_not_block_the_next(deleted, monkeypatch, error):
    first, bad, last = deleted(days=30), deleted(days=20), deleted(days=10)
    purge = DirectFolders.purge

    def failing(self, path):
        if path == bad.trash:
            raise error
        purge(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(DirectFolders, "purge", failing)
        assert trash.purge_old() == 2
    assert [t.trash.exists() for t in (first, bad, last)] == [False, True, False]
    assert purges() == [(first.slug, "ok"), (bad.slug, "failed"), (last.slug, "ok")]
    assert trash.purge_old() == 1, "it is tried again"
    assert not bad.trash.exists()


def test_a_node_without_a_driver_does_not_block_the_next(deleted):
    bad, good = deleted(days=20, node=NodeFactory(name="odd", runtime="gone")), deleted(days=10)
    assert trash.purge_old() == 1
    assert purges() == [(bad.slug, "failed"), (good.slug, "ok")]


def test_a_second_run_does_nothing_and_writes_nothing(deleted, monkeypatch):
    deleted(days=10)
    trash.purge_old()
    rows, tenants = AuditEntry.objects.count(), list(Tenant.objects.values())
    monkeypatch.setattr(DirectFolders, "purge", lambda *_: pytest.fail("nothing is left to purge"))
    assert trash.purge_old() == 0
    assert (AuditEntry.objects.count(), list(Tenant.objects.values())) == (rows, tenants)


def test_what_a_killed_run_purged_and_did_not_record_is_recorded(deleted):
    tenant = deleted(days=10)
    DirectFolders().purge(tenant.trash)
    assert trash.purge_old() == 1
    assert purges() == [(tenant.slug, "ok")]


def test_purged_by_two_at_once_is_recorded_once(deleted, monkeypatch):
    deleted(days=10)
    purge = DirectFolders.purge

    def overtaken(self, path):
        monkeypatch.setattr(DirectFolders, "purge", purge)
        assert trash.purge_old() == 1
        purge(self, path)

    monkeypatch.setattr(DirectFolders, "purge", overtaken)
    assert trash.purge_old() == 0
    assert len(purges()) == 1
