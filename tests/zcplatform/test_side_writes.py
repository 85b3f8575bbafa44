"""Counters, boards, logs: what is written beside the work never ends the work, on a real disk that is full."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenants.egress.counts import Counts, Ledger, read, stats_file
from tenants.routing import caddy
from tenants.runtimes import shim
from tenants.runtimes.shim import Log
from tests.architecture import ROOT
from tests.faults.world import small_disk
from tests.zcplatform.test_served_full_disk import Filler
from zcplatform import http_metrics, logs, pulse
from zcplatform.board import BUSY, IDLE, Board
from zcplatform.management.commands import serve

pytestmark = pytest.mark.root


@pytest.fixture
def disk(settings):
    """The home lies on it."""
    with small_disk(32) as folder:
        settings.HOME = folder
        yield folder


@pytest.fixture
def filler(disk):
    return Filler(disk)


def test_a_worker_that_has_a_place_on_the_board_keeps_it_up_to_date(disk, filler):
    board = Board("runs")
    board.clear()
    board._idle()
    os.utime(board.folder / str(os.getpid()), (1, 1))
    filler.fill()
    board._busy(task={"func": "tests.zcplatform.work.write"})
    assert (board.busy(), board.changed_at() > 1) == (1, True)
    board._idle()
    assert board.busy() == 0
    assert len(BUSY) == len(IDLE)


@pytest.mark.parametrize("fault", ["full", "missing"])
def test_a_worker_that_has_none_works_and_its_cluster_is_not_judged(disk, filler, fault):
    board = Board("runs")
    board.clear()
    if fault == "full":
        filler.fill()
        Path(board.folder / "1").touch()  # even where there is room for a name
    else:
        board.folder.rmdir()
    board._busy(task={"func": "tests.zcplatform.work.write"})
    judged = pulse.Pulse("runs", 1, board)
    judged._waiting_since = -1_000.0
    assert judged.is_silent()
    with pytest.raises(OSError):
        judged.ask()
    assert not judged.is_silent()
    assert not (board.folder / "probe").exists()


@pytest.mark.parametrize("fault", ["full", "missing"])
def test_the_proxys_counters_are_lost_and_said_so_once(disk, filler, caplog, fault):
    ledger = Ledger()
    ledger.tenants = {f"tenant-{n}": Counts(allowed=n) for n in range(1_000)}
    if fault == "full":
        stats_file().parent.mkdir()
        filler.fill()
    for _ in range(3):
        ledger.write()
    assert [record.message for record in caplog.records] == ["the proxy's counters can't be written"]
    assert read() == {}
    filler.free() if fault == "full" else stats_file().parent.mkdir()
    ledger.write()
    assert read()["tenant-7"]["allowed"] == 7


COUNT = """
import django, os, sys
django.setup()
from pathlib import Path
from zcplatform import http_metrics
first, disk = int(sys.argv[1]), Path(sys.argv[2])
for number in range(first):
    http_metrics.observe("GET", f"/{number}", 200, 0.1)
with (disk / "filler").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        pass
for number in range(1_000):
    http_metrics.observe("GET", f"/{number}", 200, 0.1)
print("alive")
"""


@pytest.mark.parametrize("first", [0, 1])
def test_a_web_process_outlives_a_disk_that_has_no_room_for_its_counts(disk, first):
    """Whether it has begun to count or not: a file in memory whose page has no place on the disk is a SIGBUS."""
    folder = disk / "metrics"
    folder.mkdir()
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", http_metrics.VARIABLE: str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(first), str(disk)], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
    assert len(list(folder.iterdir())) == first


def test_a_line_that_can_not_be_logged_is_lost_and_nothing_else(disk, filler, monkeypatch):
    with (disk / "log").open("w", buffering=1) as stream:  # as stderr is
        handler = logs.Handler(stream)
        monkeypatch.setattr(sys, "stderr", stream)
        filler.fill()
        for number in range(3):
            handler.emit(logging.makeLogRecord({"msg": f"line {number} " + "x" * 9_000}))
        filler.free()
        handler.emit(logging.makeLogRecord({"msg": "afterwards"}))
    assert "afterwards" in (disk / "log").read_text()


def test_what_serve_says_to_a_full_disk_is_not_said(disk, filler):
    with (disk / "said").open("w") as stream:
        command = serve.Command(stdout=stream)
        filler.fill()
        command._say("x" * 9_000)
        filler.free()
        command._say("afterwards")
    assert "afterwards" in (disk / "said").read_text()


def test_an_agents_log_goes_on_where_there_was_no_room_for_its_next_file(disk, monkeypatch):
    """This file system always has room for another name, so the refusal of one is played."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    log = Log(str(disk / "log"), 5_000, 3)
    log.write(b"x" * 4_999 + b"\n")
    with monkeypatch.context() as patch:
        patch.setattr(shim.os, "open", full)
        for _ in range(3):
            log.write(b"y" * 5_000)
    os.fstat(log.descriptor)  # not closed, and so nobody else's by now
    log.write(b"z" * 4_999 + b"\n")
    log.write(b"afterwards\n")
    (line,) = (disk / "log").read_bytes().splitlines()
    assert line.endswith(b"Z afterwards")
    assert b"z" in (disk / "log.1").read_bytes()
    assert not os.get_inheritable(log.descriptor)
    os.close(log.descriptor)


def test_routes_are_written_without_a_turn_where_there_is_no_room_for_its_file(settings, tmp_path):
    settings.HOME = tmp_path / "file"
    settings.HOME.write_text("not a folder")
    with caddy._turn():
        done = True
    assert done
