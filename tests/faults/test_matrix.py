"""The matrix: every step of every kind of run, hit at every place by every fault, in real worker processes.

Whatever happened, another worker takes over, the world ends right, and reconcile then changes nothing.
Each pair of a kind, a step and a fault at its place is played, in other cells for each commit; ``ZC_CELLS=all`` plays
all cells. docs/faults.md says how to read it.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tenants import configuration, services
from tenants.models import Run, StepRecord, Tenant
from tenants.provisioning import procedure, runner
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.states import Desired, RunKind, RunStatus, Status
from tenants.undelete import undelete
from tests import processes
from tests.architecture import ROOT
from tests.faults.cells import HALTED, Cell, all_cells, chosen, pairs, seed
from tests.faults.world import World, agent_tokens, assert_no_canary, assert_world
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.caddy, pytest.mark.slow]
ALL, SEED = all_cells(), seed()
CELLS = ALL if os.environ.get("ZC_CELLS") == "all" else chosen(ALL, SEED)
BEFORE = {
    RunKind.PROVISION: Status.DRAFT,
    RunKind.START: Status.STOPPED,
    RunKind.REACTIVATE: Status.SUSPENDED,
}
AFTER = {
    RunKind.STOP: Status.STOPPED,
    RunKind.SUSPEND: Status.SUSPENDED,
    RunKind.UNDELETE: Status.STOPPED,
    RunKind.DEPROVISION: Status.DELETED,
    HALTED: Status.STOPPED,
}


def arranged(world: World, cell: Cell) -> Run:
    """The tenant in the state that the run begins from, and the run, asked for and not begun."""
    if cell.kind == RunKind.PROVISION:
        return services.deploy(actor=OPERATOR, tenant=world.draft())
    if cell.kind == HALTED:
        tenant = world.arrange(Status.STOPPED)
        world.drive(services.suspend(actor=OPERATOR, tenant=tenant))
        return services.reactivate(actor=OPERATOR, tenant=world.fresh())
    if cell.kind == RunKind.UNDELETE:
        world.drive(services.delete(actor=OPERATOR, tenant=world.arrange(Status.RUNNING)))
        return undelete(actor=OPERATOR, tenant=world.fresh()).run
    if cell.kind == RunKind.REACTIVATE:
        world.arrange(Status.RUNNING)
    tenant = world.arrange(BEFORE.get(cell.kind, Status.RUNNING))
    run = _ask(cell.kind, tenant)
    assert run is not None and run.kind == cell.run_kind
    return run


def _ask(kind: str, tenant: Tenant) -> Run | None:
    if kind == RunKind.RESIZE:
        return services.resize(actor=OPERATOR, tenant=tenant, plan="pro" if tenant.plan.slug == "big" else "big")
    if kind == RunKind.RECONFIGURE:
        extra = {"stream_delay_ms": (tenant.config.extra_config.get("stream_delay_ms", 0) + 1) % 50}
        return configuration.update(actor=OPERATOR, tenant=tenant, given=configuration.ConfigInput(extra=extra))
    if kind == RunKind.ROTATE_SECRETS:
        return services.rotate_secrets(actor=OPERATOR, tenant=tenant).run
    if kind == RunKind.DEPROVISION:
        return services.delete(actor=OPERATOR, tenant=tenant)
    return getattr(services, kind)(actor=OPERATOR, tenant=tenant)


def take_over(world: World, run: Run) -> None:
    run.refresh_from_db()
    world.drive(run)


def assert_succeeded(world: World, cell: Cell, run: Run) -> None:
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, (run.status, run.reason, run.error)
    assert world.fresh().status == AFTER.get(cell.kind, Status.RUNNING)


def tried_again(world: World, cell: Cell) -> None:
    """A bug failed the run for good: what the same wish, asked again, leads to."""
    tenant = world.fresh()
    if cell.kind == RunKind.DEPROVISION:
        assert tenant.status == Status.DELETED
    elif tenant.desired == Desired.RUNNING:
        world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    elif tenant.desired == Desired.SUSPENDED:
        world.drive(services.suspend(actor=OPERATOR, tenant=tenant))
    else:
        world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert world.fresh().status == AFTER.get(cell.kind, Status.RUNNING)


def play_raise(world: World, cell: Cell, run: Run) -> None:
    assert processes.wait(world.worker(run, cell.spec)) == 0
    run.refresh_from_db()
    if run.is_active:  # the undo of a failed run waits for nothing, so it has ended
        raise AssertionError(f"{run.status} {run.reason}")
    assert (run.status, run.reason) == (RunStatus.FAILED, "internal_error")
    world.settle()  # a stop that failed, and a deletion, are asked for again by reconcile itself
    assert_world(world)
    tried_again(world, cell)


def play_kill(world: World, cell: Cell, run: Run) -> None:
    assert processes.wait(world.worker(run, cell.spec)) == processes.KILLED, "the place was never reached"
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING, "a dead worker's run looks alive until its lease runs out"
    assert not execute(run.pk, PROCEDURE)
    take_over(world, run)
    assert_ended(world, cell, run)


def assert_ended(world: World, cell: Cell, run: Run) -> None:
    """Success; but a run that was hit while it was undone was failing anyway."""
    if cell.place != "undo":
        return assert_succeeded(world, cell, run)
    run.refresh_from_db()
    assert (run.status, run.reason) == (RunStatus.FAILED, "internal_error")
    return tried_again(world, cell)


def play_hang(world: World, cell: Cell, run: Run) -> None:
    """Held in the step, it keeps its lease; the queue ends it at its time limit; then the lease really runs out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedure, "LEASE_S", 0.4)
        patch.setattr(runner, "RENEW_S", 0.1)
        pid = world.worker(run, cell.spec)
        try:
            until = time.monotonic() + 20
            while not StepRecord.objects.filter(run=run, name=cell.step).exists():
                assert time.monotonic() < until and os.waitpid(pid, os.WNOHANG) == (0, 0)
                time.sleep(0.01)
            assert not execute(run.pk, PROCEDURE)
        finally:
            os.kill(pid, signal.SIGKILL)
            processes.wait(pid)
        while not execute(run.pk, PROCEDURE):
            time.sleep(0.05)
    run.refresh_from_db()
    if run.is_active:
        take_over(world, run)
    assert_succeeded(world, cell, run)


def play_wait(world: World, cell: Cell, run: Run) -> None:
    """A dependency is down, or its reply was lost: the run waits, nothing is undone, and it goes on."""
    assert processes.wait(world.worker(run, cell.spec)) == 0
    run.refresh_from_db()
    assert run.status == RunStatus.PARKED, (run.status, run.error)
    assert (run.phase == "undo") == (cell.place == "undo")
    take_over(world, run)
    assert_ended(world, cell, run)


def play_freeze(world: World, cell: Cell, run: Run) -> None:
    """Frozen, overtaken and thawed: it does at most the one act that it had been allowed, and writes nothing."""
    pid = world.worker(run, cell.spec)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "the place was never reached"
    try:
        take_over(world, run)
        assert_ended(world, cell, run)
        written = list(StepRecord.objects.filter(run=run).values_list("name", "attempts", "result", "status"))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert processes.wait(pid) == 0
    assert list(StepRecord.objects.filter(run=run).values_list("name", "attempts", "result", "status")) == written
    found = world.settle()
    assert found == [] or cell.place == "checked", found
    if cell.place != "undo":
        assert_succeeded(world, cell, run)


PLAYS = {
    "raise": play_raise,
    "kill": play_kill,
    "hang": play_hang,
    "down": play_wait,
    "lose": play_wait,
    "freeze": play_freeze,
}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_whatever_happens_where_the_world_ends_right(world, cell):
    world.mark()
    run = arranged(world, cell)
    PLAYS[cell.fault](world, cell, run)
    assert_world(world)


def test_w7_a_secret_in_a_workers_log_is_seen(world):
    """The customer's, and the bearer of a neighbour's agent."""
    for secret in (world.canaries[0], agent_tokens(world)[0]):
        with world.log.open("a") as log:
            log.write(f"told: {secret}\n")
        with pytest.raises(AssertionError, match="W7"):
            assert_no_canary(world)
        world.log.unlink()
    assert_no_canary(world)


def told_of_the_matrix():
    return f"fault matrix: {len(CELLS)} of {len(ALL)} cells, seed {SEED}"


def test_the_number_of_cells_is_told(capsys):
    with capsys.disabled():
        print(f"\n{told_of_the_matrix()}", flush=True)
    assert len(ALL) > 1_000
    told = " ".join((ROOT / "docs/faults.md").read_text().split())
    assert f"`ZC_CELLS=all` plays all ({len(ALL):,})" in told


@pytest.mark.parametrize("by", [SEED, "one", "another"])
def test_whatever_the_seed_no_pair_is_left_out(by):
    cells = chosen(ALL, by)
    assert set.union(*map(pairs, cells)) == set.union(*map(pairs, ALL))
    assert {(c.step, c.place, c.fault) for c in cells} == {(c.step, c.place, c.fault) for c in ALL}
    assert {c.kind for c in cells} == {c.kind for c in ALL}
    assert cells == chosen(list(ALL), by)
    assert cells != chosen(ALL, f"{by}, and again")
