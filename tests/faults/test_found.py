"""What the faults found in the kernel, each kept as a test of its own."""

from __future__ import annotations

import errno
import shutil

import pytest
from django.db.models.functions import Now

from audit.models import AuditEntry
from tenants import reconcile, services
from tenants.folders import DirectFolders
from tenants.models import Run
from tenants.runtimes.base import AgentState
from tenants.runtimes.rundir import RunDir
from tenants.states import Reason, RunStatus, Status
from tests.tenants.conftest import world  # noqa: F401 - a fixture
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import BadUpstream, DependencyDown
from zcplatform.lib.failpoints import armed

# ruff: noqa: F811


def test_an_agent_whose_removal_failed_does_not_go_on_running_in_a_tenant_that_is_called_failed(world):
    """provision-create-undo-raise: the undo was noted as failed and the agent ran on, unrouted and unseen."""
    tenant = world.tenant()
    with armed("provision.await_health.before=raise,provision.create.undo=raise"):
        world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    assert world.fresh(tenant).status == Status.ERROR
    assert [agent.state for agent in world.agents()] == [AgentState.EXITED]


def test_a_restart_that_fails_at_once_leaves_nothing_running_that_is_called_failed(world):
    """restart-withdraw_route-after-raise: the same, with an agent that no step had reached yet."""
    tenant = world.tenant(deploy=True)
    with armed("restart.withdraw_route.after=raise"):
        world.drive(services.restart(actor=OPERATOR, tenant=tenant))
    assert (world.fresh(tenant).status, world.fresh(tenant).routed) == (Status.ERROR, False)
    assert [agent.state for agent in world.agents()] == [AgentState.EXITED]


def test_a_router_that_refuses_the_routes_of_a_failed_run_does_not_keep_it_from_ending(world, monkeypatch):
    """The exception left the runner: the lease ran out, the next worker met the same, for ever and every 30 s."""
    tenant = world.tenant(deploy=True)

    def refuses(*_args):
        raise BadUpstream("Caddy refused the configuration.", type="router_refused")

    with armed("restart.withdraw_route.before=raise"):
        monkeypatch.setattr(world.router, "sync", refuses)
        run = world.drive(services.restart(actor=OPERATOR, tenant=tenant))
    assert (run.status, run.reason) == (RunStatus.FAILED, Reason.INTERNAL_ERROR)
    assert "afterwards: Caddy refused" in run.error
    assert world.fresh(tenant).status == Status.ERROR


def test_a_run_whose_worker_died_before_it_told_of_the_beginning_is_told_to_have_begun(world):
    """stop-begin-writing-kill: the audit spoke of an interruption of something that had never begun."""
    tenant = world.tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING, epoch=1, lease_owner="dead", lease_until=Now())
    world.drive(run)
    told = AuditEntry.objects.filter(action__startswith="run.").order_by("pk").values_list("action", flat=True)
    assert list(told) == ["run.start", "run.interrupt", "run.finish"]


def test_a_deletion_that_fails_after_its_last_write_ends(world):
    """deprovision-free_slot-after-raise: deleted can't become deleting again, and the run never ended."""
    tenant = world.tenant(deploy=True)
    with armed("deprovision.free_slot.after=raise"):
        run = world.drive(services.delete(actor=OPERATOR, tenant=tenant))
    assert (run.status, world.fresh(tenant).status) == (RunStatus.FAILED, Status.DELETED)


def test_r21_a_folder_that_vanished_under_a_stopped_tenant_is_told_and_nothing_is_started(world):
    """The random machine: nobody was told, and the next start made an empty one as if nothing had been there."""
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert reconcile.look(world.node()) == []
    shutil.rmtree(tenant.folder / "data")
    found = [item.difference for item in reconcile.look(world.node())]
    assert [(d.what, d.action, d.slug) for d in found] == [("folder_absent", "report", tenant.slug)]
    assert reconcile.act(world.node(), reconcile.look(world.node())) == []


@pytest.mark.parametrize("module", ["folders", "runtimes.rundir"])
def test_r2_a_full_disk_leaves_no_half_file(world, monkeypatch, module, tmp_path):
    """The random machine, seed 3: what could not be written whole stayed under its temporary name."""
    tenant = world.tenant(deploy=True)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    record = {"instance": "x"}
    run = RunDir(str(tenant.public_id))
    run.root.mkdir()
    run.write_record(record)
    with monkeypatch.context() as patch:
        patch.setattr(f"tenants.{module}.os.fsync", full)
        with pytest.raises(DependencyDown) as failed:
            if module == "folders":
                DirectFolders().write_config(tenant.folder, tenant.uid, {"demo.json": b"{}"})
            else:
                run.write_record({"instance": "y"})
    assert failed.value.type == Reason.WAITING_FOR_STORAGE
    assert list(tmp_path.rglob("*.tmp")) == []
    assert run.record() == record
