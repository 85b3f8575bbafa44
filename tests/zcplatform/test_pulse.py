"""The judgement itself, step by step, with a board that is written by hand."""

import os

import pytest
from django.db import DatabaseError
from django_q.models import OrmQ

from monitoring import heartbeats
from zcplatform import pulse as module
from zcplatform import schedules
from zcplatform.board import Board
from zcplatform.pulse import PATIENCE_S, START_S, Pulse

pytestmark = pytest.mark.django_db


@pytest.fixture
def now(monkeypatch):
    """Seconds that pass when the test says so."""
    clock = {"now": 100.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: clock["now"])
    return clock


@pytest.fixture
def board(settings, tmp_path):
    settings.HOME = tmp_path
    board = Board("runs")
    board.clear()
    return board


@pytest.fixture
def pulse(board):
    return Pulse("runs", 1, board)


def write(board, state, at):
    """A worker, this very process, changes its state at ``at``."""
    path = board.folder / str(os.getpid())
    path.write_text(state)
    os.utime(path, (at, at))


def test_one_beat_is_queued_and_no_second_while_it_waits(pulse, now):
    pulse.ask()
    pulse.ask()
    assert OrmQ.objects.count() == 1


def test_a_queue_that_holds_work_needs_no_beat(pulse, now):
    heartbeats.async_task("tests.zcplatform.work.write", cluster="runs")
    pulse.ask()
    assert [row.func() for row in OrmQ.objects.all()] == ["tests.zcplatform.work.write"]


def test_silence_is_something_that_waits_while_no_worker_moves(pulse, board, now):
    write(board, "idle", at=1)
    pulse.ask()
    pulse.ask()
    now["now"] += PATIENCE_S
    pulse.ask()
    assert not pulse.is_silent()
    now["now"] += 1
    assert pulse.is_silent()


def test_a_worker_that_moves_is_a_sign_of_life_and_beats_for_the_queue_that_waits(pulse, board, now):
    write(board, "idle", at=1)
    pulse.ask()
    now["now"] += PATIENCE_S + 1
    write(board, "idle", at=2)
    pulse.ask()
    assert not pulse.is_silent()
    assert heartbeats.silent(["runs"]) == []


def test_busy_to_the_last_worker_is_no_silence(pulse, board, now):
    write(board, "busy", at=1)
    for _ in range(5):
        pulse.ask()
        now["now"] += PATIENCE_S - 1
        assert not pulse.is_silent()


def test_a_cluster_that_was_just_started_gets_more_time(pulse, now):
    pulse.ask()
    now["now"] += START_S
    assert not pulse.is_silent()
    now["now"] += 1
    assert pulse.is_silent()
    pulse.reset()
    assert not pulse.is_silent()


def test_a_start_lasts_until_the_first_task_and_not_until_the_first_worker_is_made(pulse, board, now):
    """Its workers may be there long before those who hand the work out."""
    pulse.ask()
    write(board, "made", at=1)
    pulse.ask()
    now["now"] += START_S
    pulse.ask()
    assert not pulse.is_silent()
    write(board, "busy", at=2)
    write(board, "idle", at=3)
    pulse.ask()
    now["now"] += PATIENCE_S + 1
    pulse.ask()
    assert pulse.is_silent()


def test_workers_that_are_made_again_and_again_do_not_prolong_the_start(pulse, board, now):
    pulse.ask()
    for at in range(1, 7):
        now["now"] += START_S / 6
        write(board, "made", at=at)
        pulse.ask()
    assert not pulse.is_silent()
    now["now"] += 1
    assert pulse.is_silent()


def test_a_cluster_that_has_worked_is_not_starting_when_its_workers_are_replaced(pulse, board, now):
    write(board, "idle", at=1)
    pulse.ask()
    (board.folder / str(os.getpid())).unlink()
    write(board, "made", at=2)
    pulse.ask()
    now["now"] += PATIENCE_S + 1
    pulse.ask()
    assert pulse.is_silent()


def test_nobody_is_judged_while_the_database_does_not_answer(pulse, board, now, monkeypatch):
    write(board, "idle", at=1)
    pulse.ask()
    now["now"] += PATIENCE_S + 1
    monkeypatch.setattr(heartbeats, "is_waiting", lambda cluster: (_ for _ in ()).throw(DatabaseError("locked")))
    with pytest.raises(DatabaseError):
        pulse.ask()
    assert not pulse.is_silent()


def test_a_dead_worker_leaves_the_board(board):
    (board.folder / "4194305").write_text("busy")  # above the highest process id there is
    assert (board.busy(), board.changed_at()) == (0, 0.0)
    assert list(board.folder.iterdir()) == []


SWEEP = "tenants.tasks.reconcile_sweep"


def begin(board, task, at):
    """The worker, this very process, takes up a task."""
    name = str(os.getpid())
    (board.tasks_folder / name).write_text(task)
    os.utime(board.tasks_folder / name, (at, at))
    write(board, "busy", at)


def test_a_task_that_begins_and_does_not_end_is_late_while_another_worker_beats(pulse, board, now):
    begin(board, SWEEP, at=1)
    pulse.ask()
    now["now"] += schedules.longest_s(SWEEP)
    pulse.ask()
    assert heartbeats.late() == []
    now["now"] += 1
    heartbeats.beat("runs")
    pulse.ask()
    assert heartbeats.late() == ["reconcile_sweep"]
    assert heartbeats.silent(["runs"]) == []


def test_one_that_ends_and_begins_anew_is_not(pulse, board, now):
    for at in range(1, 5):
        begin(board, SWEEP, at=at)
        pulse.ask()
        now["now"] += schedules.longest_s(SWEEP) / 2
    write(board, "idle", at=9)
    now["now"] += 1_000
    pulse.ask()
    assert heartbeats.late() == []


def test_a_long_job_has_its_time(pulse, board, now):
    begin(board, "backups.tasks.drill", at=1)
    pulse.ask()
    now["now"] += 600
    pulse.ask()
    assert heartbeats.late() == []


def test_a_worker_says_on_the_board_what_it_does(board):
    board._busy(task={"func": SWEEP})
    assert [(worker, task) for worker, task, _ in board.under_way()] == [(str(os.getpid()), SWEEP)]
    board._idle()
    assert board.under_way() == set()
