"""The benches' own small parts; the figures themselves are for ``make bench``."""

import subprocess
import sys
from threading import Barrier

from tests.architecture import ROOT
from tests.bench import Row, at_once, median_ms, table


def test_the_table_is_as_wide_as_it_has_to_be():
    rows = [Row("a route", "8.8 ms", "≤ 30 ms", "Caddy's own 8 ms"), Row("more", "1 s")]
    assert table(rows).splitlines() == [
        "what     measured  target   peer",
        "a route  8.8 ms    ≤ 30 ms  Caddy's own 8 ms",
        "more     1 s",
    ]


def test_everything_runs_at_once():
    gate = Barrier(3)
    took = at_once(lambda _item: gate.wait(20), range(3))
    assert took.wall > 0
    assert not gate.broken


def test_the_median_is_in_milliseconds():
    assert median_ms([0.001, 0.5, 0.002]) == 2.0


def test_an_unknown_bench_is_wrong_usage():
    argv = [sys.executable, "-m", "tests.bench", "--only", "nothing"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "provision" in done.stderr


def bench(*argv):
    command = [sys.executable, "-m", "tests.bench", "--short", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_bench_finds_nothing_of_the_one_before_it():
    """The same twice: of one database the second would be refused its rows."""
    done = bench("--only", "pages", "--only", "pages")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\npages\n") == 2
    assert done.stdout.rstrip().endswith("all 2 ran")


def test_one_that_fails_does_not_keep_the_others_from_running(monkeypatch):
    """And is named at the end."""
    monkeypatch.setenv("ZC_BENCH_FLEET", "no number")
    done = bench("--only", "provision", "--only", "pages")
    assert done.returncode == 1
    assert "\npages\n" in done.stdout
    assert done.stdout.rstrip().endswith("failed: provision")


def test_ci_plays_every_bench():
    assert "make bench SHORT=1 || verdict=1" in (ROOT / ".ci" / "run").read_text()
