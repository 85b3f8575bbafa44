"""The runner by itself: made-up steps on a real database."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from tenants.models import Run, StepRecord
from tenants.provisioning import procedure, runner, undo
from tenants.provisioning.procedure import Park, Procedure, Rewind, Step
from tenants.provisioning.runner import execute
from tenants.states import Phase, Reason, RunStatus, StepStatus
from tests import processes
from tests.factories import RunFactory
from zcplatform.lib.errors import DependencyDown, RunFailed

pytestmark = pytest.mark.django_db(transaction=True)


class Made(Procedure):
    """Steps from functions; remembers what was done in which order."""

    def __init__(self, **steps):
        self.log, self.hooks = [], []
        self._steps = tuple(self._step(name, do) for name, do in steps.items())

    def _step(self, name, do):
        def run(ctx):
            self.log.append(name)
            return do(ctx) if do else {"of": name}

        return Step(name, run, lambda ctx: self.log.append(f"undo {name}"))

    def steps(self, run):
        return self._steps

    def subject(self, run):
        return None

    def on_start(self, ctx, *, interrupted):
        self.hooks.append("interrupted" if interrupted else "start")

    def on_wait(self, ctx, reason, detail):
        self.hooks.append(f"wait {reason}")

    def on_success(self, ctx):
        self.hooks.append("success")

    def on_failure(self, ctx):
        self.hooks.append(f"failure {ctx.run.reason}")


def fail(error):
    def do(ctx):
        raise error

    return do


def go_on(run):
    """What the ticker does, without waiting for the clock."""
    Run.objects.filter(pk=run.pk, status=RunStatus.PARKED).update(next_attempt_at=Now())


def test_results_are_stored_and_given_to_later_steps():
    seen = {}
    made = Made(one=None, two=lambda ctx: seen.update(ctx.results) or {"n": 2})
    run = RunFactory()
    assert execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, made.log, made.hooks) == (RunStatus.SUCCEEDED, ["one", "two"], ["start", "success"])
    assert seen == {"one": {"of": "one"}}
    assert list(run.steps.values_list("name", "status", "result")) == [
        ("one", StepStatus.DONE, {"of": "one"}),
        ("two", StepStatus.DONE, {"n": 2}),
    ]
    assert run.lease_until is None
    assert run.finished_at


def test_a_finished_run_is_not_executed_again():
    made, run = Made(one=None), RunFactory()
    execute(run.pk, made)
    assert not execute(run.pk, made)
    assert made.log == ["one"]


def test_failure_undoes_in_reverse_the_failing_step_included_and_the_first_error_surfaces():
    made = Made(one=None, two=None, three=fail(RunFailed("no image", type=Reason.IMAGE_MISSING)), four=None)
    run = RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    assert made.log == ["one", "two", "three", "undo three", "undo two", "undo one"]
    assert (run.status, run.reason, run.error) == (RunStatus.FAILED, Reason.IMAGE_MISSING, "no image")
    assert made.hooks == ["start", "failure image_missing"]


def test_a_bug_in_a_step_tells_nothing_of_itself_to_the_customer():
    run = RunFactory()
    execute(run.pk, Made(one=fail(ZeroDivisionError("secret path /x"))))
    run.refresh_from_db()
    assert run.reason == Reason.INTERNAL_ERROR
    assert "secret path" not in run.error


def test_an_undo_that_fails_does_not_keep_the_others_from_being_done():
    log = []

    class Sour(Made):
        def _step(self, name, do):
            def undo(ctx):
                log.append(name)
                if name == "two":
                    raise ValueError("can't")

            return Step(name, do or (lambda ctx: None), undo)

    run = RunFactory()
    execute(run.pk, Sour(one=None, two=None, three=fail(RunFailed("first", type=Reason.UNHEALTHY))))
    run.refresh_from_db()
    assert log == ["three", "two", "one"]
    assert (run.status, run.error) == (RunStatus.FAILED, "first")
    assert "can't" in run.steps.get(name="two").error


def test_a_parked_step_gives_the_worker_back_and_is_done_again_when_due():
    turns = iter([Park(Reason.WAITING_FOR_HEALTH, after_s=30), None])

    def do(ctx):
        if error := next(turns):
            raise error

    made, run = Made(one=None, two=do), RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.lease_until, run.enqueued_at) == (RunStatus.PARKED, None, None)
    assert not execute(run.pk, made), "not due yet"
    go_on(run)
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, made.log) == (RunStatus.SUCCEEDED, ["one", "two", "two"])
    assert made.hooks == ["start", "wait waiting_for_health", "success"]


def test_a_dependency_that_is_down_parks_for_ever_longer_and_undoes_nothing():
    made, run = Made(one=fail(DependencyDown("gone", type=Reason.WAITING_FOR_ENGINE))), RunFactory()
    for _ in range(5):
        go_on(run)
        execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.waits, run.reason) == (RunStatus.PARKED, 5, Reason.WAITING_FOR_ENGINE)
    assert "undo one" not in made.log
    assert [runner.backoff(n) for n in (0, 1, 5, 6, 99)] == [1, 2, 32, 60, 60]


def test_a_dependency_that_is_down_during_undo_parks_and_the_undo_goes_on_later():
    down = [True]

    class Slow(Made):
        def _step(self, name, do):
            def undo(ctx):
                self.log.append(f"undo {name}")
                if name == "one" and down.pop() if down else False:
                    raise DependencyDown("gone")

            return Step(name, do or (lambda ctx: None), undo)

    made, run = Slow(one=None, two=fail(RunFailed("first", type=Reason.UNHEALTHY))), RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.phase, run.error) == (RunStatus.PARKED, Phase.UNDO, "first")
    go_on(run)
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.reason, run.error) == (RunStatus.FAILED, Reason.UNHEALTHY, "first")
    assert made.log[-1] == "undo one"


def test_a_rewind_does_the_steps_anew_and_gives_up_after_five():
    def do(ctx):
        raise Rewind("one", RunFailed("taken", type=Reason.PORT_CONFLICT))

    made, run = Made(zero=None, one=None, two=do), RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    done = [name for name in made.log if not name.startswith("undo")]
    assert done == ["zero"] + ["one", "two"] * 6
    assert (run.status, run.reason) == (RunStatus.FAILED, Reason.PORT_CONFLICT)


def test_a_run_of_a_dead_worker_is_taken_over_where_it_stood():
    made, run = Made(one=None, two=None), RunFactory()
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, epoch=1, lease_owner="dead", lease_until=Now(), started_at=Now()
    )
    StepRecord.objects.create(run=run, position=0, name="one", status=StepStatus.DONE, started_at="2026-01-01T00:00Z")
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.epoch, made.log) == (RunStatus.SUCCEEDED, 2, ["two"])
    assert made.hooks == ["interrupted", "success"]


def test_a_live_lease_is_respected():
    made, run = Made(one=None), RunFactory()
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING, lease_owner="alive", lease_until="2100-01-01T00:00Z")
    assert not execute(run.pk, made)
    assert made.log == []


def overtake(run, status=RunStatus.RUNNING):
    Run.objects.filter(pk=run.pk).update(epoch=99, lease_owner="other", status=status)


def test_an_overtaken_worker_writes_nothing_more():
    """Frozen in the middle of a step and overtaken: its result, its failure and its undo are all fenced out."""
    made = Made(one=lambda ctx: overtake(ctx.run) or {"late": True}, two=None)
    run = RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.epoch, run.lease_owner) == (RunStatus.RUNNING, 99, "other")
    assert made.log == ["one"]
    assert run.steps.get().result == {}


def test_an_overtaken_worker_that_fails_undoes_nothing():
    def do(ctx):
        overtake(ctx.run)
        raise RunFailed("late", type=Reason.UNHEALTHY)

    made, run = Made(one=do), RunFactory()
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.phase, run.error, made.log) == (Phase.DO, "", ["one"])


def test_check_stops_a_step_before_its_side_effect():
    acted = []

    def do(ctx):
        overtake(ctx.run)
        ctx.check()
        acted.append(True)

    execute(RunFactory().pk, Made(one=do))
    assert not acted


def test_a_cancelled_worker_gives_its_lease_back_so_that_the_next_run_may_begin():
    run = RunFactory()
    after = RunFactory(tenant=run.tenant, status=RunStatus.SUCCEEDED)

    def cancelled_meanwhile(ctx):
        Run.objects.filter(pk=run.pk).update(status=RunStatus.CANCELLED, epoch=99)
        Run.objects.filter(pk=after.pk).update(status=RunStatus.QUEUED)
        assert not Run.objects.claimable().filter(pk=after.pk).exists(), "a worker is still inside the tenant"
        ctx.check()

    made = Made(one=cancelled_meanwhile)
    execute(run.pk, made)
    assert made.log == ["one"]
    assert Run.objects.claimable().filter(pk=after.pk).exists()


def test_eight_workers_at_once_execute_a_run_once():
    made, run, barrier = Made(one=None), RunFactory(), threading.Barrier(8)

    def work():
        barrier.wait()
        try:
            execute(run.pk, made)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.log == ["one"]


def test_a_long_step_keeps_its_lease(monkeypatch):
    monkeypatch.setattr(procedure, "LEASE_S", 0.6)
    monkeypatch.setattr(runner, "RENEW_S", 0.1)
    run = RunFactory()

    def do(ctx):
        threading.Event().wait(1.2)
        assert not Run.objects.claimable().filter(pk=run.pk).exists()

    execute(run.pk, Made(one=do))
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED


def test_a_step_that_kills_every_worker_is_given_up():
    made, run = Made(one=None), RunFactory()
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, lease_until=Now(), started_at=Now(), interruptions=runner.MAX_INTERRUPTIONS
    )
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.reason, made.log) == (RunStatus.FAILED, Reason.INTERNAL_ERROR, [])
    assert "died 6 times" in run.error


def deaths_until_the_end(run, made, failpoint):
    """Real workers, one after the other, each killed at the same place; returns how many."""
    deaths = 0
    while processes.run(lambda: execute(run.pk, made), failpoint) == processes.KILLED:
        deaths += 1
        assert deaths < 40, "for ever"
        Run.objects.filter(pk=run.pk).update(lease_until=Now())
    run.refresh_from_db()
    return deaths


def test_an_undo_that_kills_every_worker_is_given_up_and_the_others_are_done():
    made, run = Made(one=None, two=None, three=fail(RunFailed("first", type=Reason.UNHEALTHY))), RunFactory()
    deaths = deaths_until_the_end(run, made, f"{run.kind}.two.undo=kill")
    assert runner.MAX_INTERRUPTIONS < deaths <= undo.MAX_UNDO_INTERRUPTIONS + 3
    assert (run.status, run.reason) == (RunStatus.FAILED, Reason.UNHEALTHY), "the first error is the one that surfaces"
    assert run.error.startswith("first\n")
    assert "undo of two: given up, its workers died" in run.error
    assert run.error.count("undo of two") == 1
    assert run.steps.get(name="one").status == StepStatus.UNDONE
    assert run.steps.get(name="two").status == StepStatus.DONE, "it was not undone, and says so"


def test_a_step_and_then_its_undo_that_kill_every_worker_end_too():
    made, run = Made(one=None, two=None), RunFactory()
    deaths = deaths_until_the_end(run, made, f"{run.kind}.two.before=kill,{run.kind}.two.undo=kill")
    assert deaths <= undo.MAX_UNDO_INTERRUPTIONS + 3
    assert (run.status, run.reason) == (RunStatus.FAILED, Reason.INTERNAL_ERROR)
    assert run.steps.get(name="one").status == StepStatus.UNDONE


def test_settling_that_kills_every_worker_is_given_up():
    class Deadly(Made):
        def settle(self, ctx):
            os.kill(os.getpid(), signal.SIGKILL)

    run = RunFactory()
    made = Deadly(one=fail(RunFailed("first", type=Reason.UNHEALTHY)))
    assert deaths_until_the_end(run, made, "") <= undo.MAX_UNDO_INTERRUPTIONS + 3
    assert (run.status, run.reason) == (RunStatus.FAILED, Reason.UNHEALTHY)
    assert "needs a look" in run.error


class Flaw:
    """A database that takes no write for a moment, at one kind of statement: locked, or its disk full."""

    def __init__(self, times, table, verb="UPDATE"):
        self.left, self.needle = times, f'{verb} "{table}"'

    def __call__(self, go_on, sql, params, many, context):
        if self.left and sql.startswith(self.needle):
            self.left -= 1
            raise OperationalError("database or disk is full")
        return go_on(sql, params, many, context)


@pytest.mark.parametrize("where", ["subject", "step", "success", "failure"])
def test_a_database_that_fails_for_a_moment_is_no_death(monkeypatch, where):
    """More often than a worker may die, wherever the run is: it is handed back, and no interruption is counted."""
    monkeypatch.setattr(runner, "RETRY_S", 0.01)
    flaw = Flaw(0, "runs")

    class Shaky(Made):
        def subject(self, run):
            self.fails("subject")

        def fails(self, place):
            if place == where and rounds:
                rounds.pop()
                flaw.left = 3  # the write of the outcome, and the first tries to hand the run back
                if place == "subject":
                    raise OperationalError("database is locked")

        def on_success(self, ctx):
            self.fails("success")
            super().on_success(ctx)

        def on_failure(self, ctx):
            self.fails("failure")
            super().on_failure(ctx)

    rounds = list(range(runner.MAX_INTERRUPTIONS + 2))
    made = Shaky(one=None, two=lambda ctx: made.fails("step"))
    if where == "failure":
        made = Shaky(one=fail(RunFailed("first", type=Reason.UNHEALTHY)))
    run = RunFactory()
    with connection.execute_wrapper(flaw):
        for _ in range(runner.MAX_INTERRUPTIONS + 3):
            go_on(run)
            execute(run.pk, made)
            run.refresh_from_db()
            assert run.status != RunStatus.RUNNING, "as if its worker had died"
    # A step that was done is not done again for want of a place to write its result.
    assert len(rounds) == (runner.MAX_INTERRUPTIONS + 1 if where == "step" else 0)
    assert (run.interruptions, run.status) == (0, RunStatus.FAILED if where == "failure" else RunStatus.SUCCEEDED)
    assert "interrupted" not in made.hooks


@pytest.mark.sqlite
def test_a_worker_whose_database_is_locked_by_another_process_hands_its_run_back(monkeypatch):
    """The real thing: a writer of another process holds the file for longer than anybody waits for a lock."""
    held, run = threading.Event(), RunFactory()
    path, waits = connection.settings_dict["NAME"], []

    def hold():
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            held.set()
            threading.Event().wait(1.5)
            other.execute("ROLLBACK")

    def do(ctx):
        if not waits:
            waits.append(ctx.attempt)
            connection.cursor().execute("PRAGMA busy_timeout = 100")
            threading.Thread(target=hold).start()
            held.wait()

    made = Made(one=do, two=None)
    execute(run.pk, made)
    run.refresh_from_db()
    assert (run.status, run.interruptions) == (RunStatus.PARKED, 0)
    go_on(run)
    execute(run.pk, made)
    run.refresh_from_db()
    connection.close()  # with its impatience
    assert (run.status, run.interruptions) == (RunStatus.SUCCEEDED, 0)
