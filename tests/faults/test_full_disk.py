"""R2: a disk that is full, a real one: the database, the folders and the agents' run folders lie on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from tenants import services
from tenants.models import Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.states import RunStatus, Status
from tests.faults.world import assert_world, installed, small_disk
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import DependencyDown

pytestmark = [pytest.mark.caddy, pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock(), small_disk(64) as disk, installed("process", disk=disk) as made:
        yield made


@pytest.fixture
def filler(world):
    """Fills the disk to so many bytes."""
    path = Path(settings.HOME) / "filler"

    def fill(leave: int) -> None:
        free = os.statvfs(path.parent)
        with path.open("wb") as file:
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)

    world.mark()
    yield fill
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("leave", [8_192, 32_768, 131_072, 262_144])
def test_r2_a_deploy_on_a_full_disk_waits_leaves_nothing_half_and_ends_when_there_is_room(world, filler, leave):
    tenant = world.draft()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    filler(leave)
    for _ in range(4):
        try:
            world.expire(run)
            execute(run.pk, PROCEDURE)
        except OperationalError:
            pass  # its worker may not even write that it waits; the lease runs out
    connection.close()
    run.refresh_from_db()
    assert run.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PARKED, RunStatus.SUCCEEDED), run.error
    assert Tenant.objects.get(pk=tenant.pk).status in (Status.DEPLOYING, Status.RUNNING), "nobody is called failed"
    assert Tenant.objects.alive().count() == 3, "reading works"
    assert [str(path) for path in world.home.rglob("*.tmp")] == []
    (Path(settings.HOME) / "filler").unlink()
    world.drive(run) if run.is_active else None
    assert (run.status, world.fresh().status) == (RunStatus.SUCCEEDED, Status.RUNNING)
    assert_world(world)


def test_r2_a_request_on_a_full_disk_changes_nothing_or_all_of_it(world, filler):
    tenant = world.arrange(Status.RUNNING)
    filler(0)
    before = (tenant.runs.count(), tenant.desired)
    with pytest.raises((OperationalError, DependencyDown)):
        for _ in range(200):  # the database may have room in a page or two
            services.stop(actor=OPERATOR, tenant=tenant)
            world.drive(services.start(actor=OPERATOR, tenant=tenant))
            before = (tenant.runs.count(), world.fresh().desired)
    connection.close()
    (Path(settings.HOME) / "filler").unlink()
    world.settle()
    tenant = world.fresh()
    assert tenant.runs.count() >= before[0]
    assert tenant.status == (Status.RUNNING if tenant.desired == "running" else Status.STOPPED)
    assert_world(world)
