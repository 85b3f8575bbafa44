"""What is loaded when: little by a command, all by the web's master before it forks, and nothing of it is open then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.caddy import free_port
from tests.zcplatform.serving import Home, children_of, wait_for
from tests.zcplatform.test_supervisor import status_of

NOTE = """
import os, sys

def note(event, args):
    if event == "import" and args[0] == "zcplatform.urls":
        with open({path!r}, "a") as file:
            print(os.getpid(), file=file)

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"), WEB_WORKERS="1")


def loaded(home, *what):
    """By a process that was given nothing."""
    argv = [sys.executable, "-m", "tests.zcplatform.loaded", *what]
    done = subprocess.run(argv, env=home.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_command_loads_neither_pages_nor_api_nor_engine(home):
    assert loaded(home)["heavy"] == []


def test_the_admin_is_loaded_to_be_checked(home):
    told = loaded(home, "checks")
    assert {"Tenant", "User", "Notifier"} <= set(told["shown"])
    assert "Group" not in told["shown"]


def test_the_web_has_loaded_all_and_opened_nothing_before_it_forks(home):
    told = loaded(home, "web")
    assert told["models"] == loaded(home)["models"], "a model that only the web knows gets no migration"
    assert {"ninja", "tenants.admin", "zcplatform.urls"} <= set(told["heavy"])
    assert (told["threads"], told["connected"], told["open"]) == (["MainThread"], [], [])


def test_a_web_worker_that_is_lost_is_replaced_without_loading_anything_anew(home, tmp_path):
    noted, port = tmp_path / "noted", free_port()
    (tmp_path / "sitecustomize.py").write_text(NOTE.format(path=str(noted)))
    home.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), home.env["PYTHONPATH"]])
    with home.serve("--no-workers", "--port", str(port)) as serve:
        serve.wait_until_said("web on")
        [master] = children_of(serve.pid)
        [lost] = wait_for(lambda: children_of(master), "a web worker")
        os.kill(lost, signal.SIGKILL)
        wait_for(lambda: set(children_of(master)) - {lost}, "another one")
        assert status_of(port) < 500
        assert noted.read_text().split() == [str(master)]
