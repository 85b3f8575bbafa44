"""An agent that our own notes no longer tell of: found in the world, told by ``doctor``, ended before anything else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from io import StringIO

import pytest
from django.core.management import call_command

from audit.models import AuditEntry
from tenants import reconcile, services, strays
from tenants.models import Tenant
from tenants.states import Status
from tests.faults import kernel
from tests.faults.world import assert_world
from zcplatform.doctor import fleet
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(300)]
root = pytest.mark.root


def lose_state(world, tenant):
    (world.home / "run" / str(tenant.public_id) / "state.json").unlink()


def lose_all(world, tenant):
    shutil.rmtree(world.home / "run" / str(tenant.public_id))


def lose_lock_too(world, tenant):
    lose_all(world, tenant)
    (world.home / "run" / f"{tenant.public_id}.lock").unlink()


LOSSES = [lose_state, lose_all, lose_lock_too]


@pytest.fixture
def tenant(world):
    world.mark()
    return world.arrange(Status.RUNNING)


def keeper(world, tenant):
    wanted = f"shim.py keep {world.home}/run/{tenant.public_id} "
    [pid] = [pid for pid, line in kernel.commands().items() if line.endswith(wanted)]
    return pid


def runs(world, tenant):
    return kernel.keepers(world.home)[str(tenant.public_id)], kernel.agents(world.home)[str(tenant.public_id)]


@pytest.mark.parametrize("lose", LOSSES)
def test_after_its_record_was_lost_doctor_tells_and_one_agent_is_left(world, tenant, lose):
    lose(world, tenant)
    told = [what for level, what, _ in fleet.differences() if level == "error"]
    assert told == [f"{tenant.slug}: keeper {keeper(world, tenant)} runs, and no record tells of it."]
    assert strays.UNSEEN in world.settle()
    assert runs(world, tenant) == (1, 1)
    rows = AuditEntry.objects.filter(tenant_id=str(tenant.public_id), action="platform.reconcile")
    assert f'"what":"{strays.UNSEEN}"' in rows.latest("pk").detail_json.replace(" ", "")
    assert_world(world)


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("verb", ["stop", "restart", "suspend"])
def test_whatever_is_asked_after_the_loss_leaves_no_second_agent(world, tenant, lose, verb):
    lose(world, tenant)
    world.drive(getattr(services, verb)(actor=OPERATOR, tenant=tenant))
    assert runs(world, tenant) == ((1, 1) if verb == "restart" else (0, 0))
    assert_world(world)


@pytest.mark.parametrize("lose", LOSSES)
def test_deleted_is_said_when_nothing_of_the_tenant_runs(world, tenant, lose):
    lose(world, tenant)
    call_command("deprovision", tenant.slug, "--purge", "--yes", stdout=StringIO())
    assert Tenant.objects.get(pk=tenant.pk).status == Status.DELETED
    assert runs(world, tenant) == (0, 0)
    assert_world(world)


@root
def test_a_daemon_of_its_uid_that_nothing_keeps_is_told_and_ended(world, tenant):
    with subprocess.Popen(["sleep", "600"], user=tenant.uid, group=tenant.uid, cwd="/") as daemon:
        told = [what for _, what, _ in fleet.differences()]
        assert f"{tenant.slug}: process {daemon.pid} runs, and no record tells of it." in told
        before = runs(world, tenant)
        world.settle()
        assert daemon.wait(10) == -signal.SIGKILL
        assert runs(world, tenant) == before, "the agent itself was let be"
    assert_world(world)


@root
def test_deleted_is_not_said_while_a_process_of_its_uid_lives(world, tenant):
    uid = tenant.uid
    with subprocess.Popen(["sleep", "600"], user=uid, group=uid, cwd="/") as daemon:
        os.kill(keeper(world, tenant), signal.SIGKILL)
        lose_lock_too(world, tenant)
        world.drive(services.delete(actor=OPERATOR, tenant=tenant, purge=True))
        assert daemon.wait(10) == -signal.SIGKILL
    assert kernel.uids({uid})[uid] == 0
    assert world.fresh().status == Status.DELETED
    assert_world(world)


def test_what_runs_of_a_tenant_that_is_deleted_or_unknown_is_ended(world, tenant):
    """As after the restore of an older database."""
    home, handle = world.home / "run" / str(tenant.public_id), tenant.agent_handle
    lose_all(world, tenant)
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.DELETED)
    found = [f.difference for f in reconcile.look(world.node) if f.difference.what == strays.UNSEEN]
    assert [d.action for d in found] == ["end"]
    reconcile.act(world.node, reconcile.look(world.node))
    assert runs(world, tenant) == (0, 0)
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.RUNNING)
    assert not home.exists() and handle is not None
    world.settle()
    assert_world(world)
