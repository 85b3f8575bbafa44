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
