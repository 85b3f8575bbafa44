"""What is loaded when: little by a command, all by the web's master before it forks, and nothing of it is open then."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.caddy import free_port
from tests.zcplatform.serving import Home, children_of, wait_for
from tests.zcplatform.test_supervisor import status_of

NOTE = """
import os, sys

class Noting:
    def find_spec(self, name, path=None, target=None):
        if name in ("zcplatform.urls", "monitoring.tasks"):
            with open({path!r}, "a") as file:
                print(name, os.getpid(), file=file)

sys.meta_path.insert(0, Noting())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"), WEB_WORKERS="1")


@pytest.fixture
def noted(tmp_path):
    """A home of its own, and who loads the code there: (module, process id)."""
    folder, notes = tmp_path / "noting", tmp_path / "notes"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NOTE.format(path=str(notes)))
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home", WEB_WORKERS="1")
    home.env["PYTHONPATH"] = os.pathsep.join([str(folder), home.env["PYTHONPATH"]])
    return home, lambda: [tuple(line.split()) for line in notes.read_text().splitlines()]


def loaded(home, *what, **extra):
    """By a process that was given nothing."""
    argv = [sys.executable, "-m", "tests.zcplatform.loaded", *what]
    done = subprocess.run(argv, env=home.env | extra, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def beaten(home):
    with closing(sqlite3.connect(home.folder / "zcplatform.db")) as database:
        return {name for (name,) in database.execute("SELECT name FROM heartbeats")}


def test_a_command_loads_neither_pages_nor_api_nor_engine(home):
    assert loaded(home)["heavy"] == []


def test_the_admin_is_loaded_to_be_checked(home):
    told = loaded(home, "checks")
    assert {"Tenant", "User", "Notifier"} <= set(told["shown"])
    assert "Group" not in told["shown"]


def test_the_web_has_loaded_all_and_opened_nothing_before_it_forks(home, tmp_path):
    told = loaded(home, "web", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert told["models"] == loaded(home)["models"], "a model that only the web knows gets no migration"
    assert {"ninja", "tenants.admin", "zcplatform.urls"} <= set(told["heavy"])
    assert (told["threads"], told["connected"], told["open"]) == (["MainThread"], [], [])
    assert list(tmp_path.iterdir()) == []


def test_a_web_worker_that_is_lost_is_replaced_without_loading_anything_anew(noted):
    home, notes = noted
    port = free_port()
    with home.serve("--no-workers", "--port", str(port)) as serve:
        serve.wait_until_said("web on")
        [master] = children_of(serve.pid)
        [lost] = wait_for(lambda: children_of(master), "a web worker")
        os.kill(lost, signal.SIGKILL)
        wait_for(lambda: set(children_of(master)) - {lost}, "another one")
        assert status_of(port) < 500
        assert [who for who in notes() if who[0] == "zcplatform.urls"] == [("zcplatform.urls", str(master))]


def test_the_workers_of_a_cluster_share_the_code_of_their_tasks(noted):
    home, notes = noted
    with home.serve("--no-web") as serve:
        serve.wait_until_said("workers of runs: 2", "workers of sweeps: 3")
        wait_for(lambda: beaten(home) >= {"runs", "sweeps"}, "both clusters have done a task")
        mains = {("monitoring.tasks", str(serve.main_of(cluster))) for cluster in ("runs", "sweeps")}
        assert {who for who in notes() if who[0] == "monitoring.tasks"} == mains
