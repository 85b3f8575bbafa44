"""The disk sweep: whose turn it is, the plan's limit (M7), the hold and its end (F2 is the folder keeper's)."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from monitoring import quota_marks
from monitoring.collectors import disks
from monitoring.models import ResourceCounter
from tenants import services
from tenants.folders import DirectFolders
from tenants.models import Event, Hold, Plan, Tenant
from tenants.states import Desired, HoldKind, RunKind, Status
from tests.factories import PlanFactory
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import RunFailed

MIB = 1_048_576


@pytest.fixture
def sizes(monkeypatch):
    """What folders take, by the tenant's public id; the real figure for those that are not named."""
    found: dict[str, int] = {}
    real = DirectFolders.size

    def size(self, folder):
        value = found.get(folder.name)
        if value == -1:
            raise RunFailed("The folder can't be read.", type="folder_failed")
        return real(self, folder) if value is None else value

    monkeypatch.setattr(DirectFolders, "size", size)
    return found


@pytest.fixture
def acme(world):
    PlanFactory(slug="pro", disk_limit_mb=100)
    return world.tenant(deploy=True)


def fill(sizes, tenant, mib):
    sizes[str(tenant.public_id)] = mib * MIB
    disks.sweep()


def finish(world):
    for tenant in Tenant.objects.all():
        for run in tenant.runs.all():
            if run.is_active:
                world.drive(run)


def told(tenant):
    rows = Event.objects.filter(tenant=tenant, type="quota.reached").order_by("pk")
    return [row.data["percent"] for row in rows]


def test_a_folder_is_measured_and_small_use_is_no_news(world, acme):
    disks.sweep()
    row = ResourceCounter.objects.get(tenant=acme)
    assert row.disk_bytes > 0 and row.disk_at > 0
    assert told(acme) == [] and not Hold.objects.exists()


def test_m7_a_warning_at_80_percent_and_a_hold_at_100(world, acme, sizes):
    fill(sizes, acme, 80)
    assert told(acme) == [80] and not Hold.objects.exists()
    fill(sizes, acme, 100)
    assert told(acme) == [80, 100]
    hold = Hold.objects.get()
    assert (hold.kind, hold.set_by, hold.note) == (HoldKind.QUOTA, "system", "disk: 100 of 100 MB")
    finish(world)
    tenant = world.fresh(acme)
    assert (tenant.status, tenant.desired) == (Status.SUSPENDED, Desired.SUSPENDED)
    assert AuditEntry.objects.filter(action="hold.set", tenant_id=str(acme.public_id), actor_id="system").exists()
    fill(sizes, acme, 120)
    assert Hold.objects.count() == 1, "held once"


def test_below_the_limit_the_hold_is_lifted_and_the_tenant_returns(world, acme, sizes):
    fill(sizes, acme, 100)
    finish(world)
    fill(sizes, acme, 99)
    finish(world)
    assert world.fresh(acme).status == Status.RUNNING
    assert AuditEntry.objects.filter(action="hold.lift", actor_id="system").count() == 1


def test_a_bigger_plan_lifts_it_too_and_that_in_the_next_turn(world, acme, sizes):
    fill(sizes, acme, 100)
    finish(world)
    for number in range(3):
        world.tenant(f"Waiting {number}", deploy=True)
    Plan.objects.filter(pk=acme.plan_id).update(disk_limit_mb=1_000)
    disks.sweep()
    finish(world)
    assert world.fresh(acme).status == Status.RUNNING


def test_a_quota_hold_of_somebody_else_is_not_ours_to_lift(world, acme, sizes):
    world.drive(services.suspend(actor=OPERATOR, tenant=acme, hold=HoldKind.QUOTA, note="disk: by hand"))
    fill(sizes, acme, 1)
    assert Hold.objects.get().lifted_at is None


def test_while_a_run_is_under_way_the_lift_waits(world, acme, sizes):
    fill(sizes, acme, 100)
    assert acme.runs.get(kind=RunKind.SUSPEND).is_active
    fill(sizes, acme, 10)
    assert Hold.objects.get().lifted_at is None
    finish(world)
    disks.sweep()
    assert Hold.objects.get().lifted_at is not None


def test_each_turn_takes_its_share_of_those_that_waited_longest(world, sizes, monkeypatch):
    monkeypatch.setattr(disks, "SPREAD", 3)
    tenants = [world.tenant(f"Tenant {n}", deploy=True) for n in range(6)]
    for expected in (2, 4, 6):
        disks.sweep()
        assert ResourceCounter.objects.exclude(disk_at=None).count() == expected
    ResourceCounter.objects.filter(tenant=tenants[3]).update(disk_at=1)
    assert next(iter(disks._due())) == tenants[3]


def test_one_that_cannot_be_measured_keeps_no_other_from_it(world, sizes, monkeypatch):
    monkeypatch.setattr(disks, "SPREAD", 1)
    bad, good = (world.tenant(f"Tenant {n}", deploy=True) for n in range(2))
    sizes[str(bad.public_id)] = -1
    outcome = disks.sweep()
    assert (outcome.items, outcome.failures) == (2, 1)
    assert ResourceCounter.objects.get(tenant=bad).disk_bytes is None
    assert ResourceCounter.objects.get(tenant=good).disk_bytes > 0


def test_where_a_look_is_dear_only_a_few_are_taken(world, monkeypatch):
    monkeypatch.setattr(disks, "SPREAD", 1)
    monkeypatch.setattr(disks, "DEAR_PER_TURN", 2)
    monkeypatch.setattr(DirectFolders, "cheap", False)
    for number in range(4):
        world.tenant(f"Tenant {number}", deploy=True)
    assert disks.sweep().items == 2


def test_falling_a_little_below_a_mark_and_coming_back_is_no_news(world, acme, sizes):
    for mib in (81, 79, 81):
        fill(sizes, acme, mib)
    assert told(acme) == [80]
    for mib in (70, 81):
        fill(sizes, acme, mib)
    assert told(acme) == [80, 80]
    assert quota_marks.disk_quota(acme, 81 * MIB).share == 0.81
