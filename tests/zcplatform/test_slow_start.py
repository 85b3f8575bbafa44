"""A cluster whose start takes long, with real processes, is left to start."""

import os

from tests.zcplatform.serving import Home, wait_for

SLOW_WORKERS = """
import sys, time

if "zcplatform.cluster" in sys.orig_argv:
    from zcplatform.board import Board, NEW

    write = Board._write

    def and_wait(board, state):
        write(board, state)
        if state == NEW:
            time.sleep(8)

    Board._write = and_wait
"""


def test_a_cluster_that_is_slow_to_start_is_left_to_start(tmp_path):
    """Each worker is there, and needs several times the patience before it takes up its first task."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(SLOW_WORKERS)
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home")
    home.env["PYTHONPATH"] = os.pathsep.join([str(slow), home.env["PYTHONPATH"]])
    with home.serve("--no-web") as serve:
        serve.wait_until_said("workers of runs: 2", "workers of sweeps: 3")
        mains = [serve.main_of(cluster) for cluster in ("runs", "sweeps")]
        for cluster in ("runs", "sweeps"):
            wait_for(home.give(cluster, f"slowly-{cluster}").exists, "it works")
        assert [serve.main_of(cluster) for cluster in ("runs", "sweeps")] == mains
        assert "fallen silent" not in serve.log.read_text()
