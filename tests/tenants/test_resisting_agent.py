"""Real agents under a uid of their own that fight for their old configuration: they lose it all the same."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from tenants import folders, runtimes, services
from tenants.agents.demo import DemoAgent
from tenants.states import Status
from tests import slot
from tests.factories import NodeFactory, PlanFactory
from tests.tenants.conftest import World
from zcplatform.lib.actors import OPERATOR

SYSTEM_PYTHON = "/usr/bin/python3"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path(SYSTEM_PYTHON).exists(), reason="needs root and an interpreter that all may run"
    ),
]

AGENT = """
import http.server, json, os, sys
mode, path = sys.argv[1:]
folder, own = os.path.dirname(path), open(path, "rb").read()
config = json.loads(own)

def anew(name):
    with open(folder + "/mine", "wb") as file:
        file.write(own)
    os.replace(folder + "/mine", name)

def fill(n):
    os.makedirs(f"{folder}/deep/{n % 50}", exist_ok=True)
    open(f"{folder}/deep/{n % 50}/{n}", "wb").close()

def swap(n):
    anew(path)

def snatch(n):
    for name in os.listdir(folder):
        if name.endswith(".tmp"):
            os.unlink(f"{folder}/{name}")

def block(n):
    if not os.path.isdir(path):
        os.unlink(path)
    os.makedirs(path + "/full", exist_ok=True)

def lock(n):
    os.chmod(folder, 0)

def fight(act):
    n = 0
    while True:
        n += 1
        try:
            act(n)
        except OSError:
            pass

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(own)
    def log_message(self, *_):
        pass

if config["name"] == "Old":
    for _ in range(2):
        if os.fork() == 0:
            fight(globals()[mode])
listen = config["listen"]
http.server.ThreadingHTTPServer((listen["host"], listen["port"]), Handler).serve_forever()
"""


@pytest.fixture
def place():
    """A home and a program that every uid may get to."""
    folder = Path(tempfile.mkdtemp(prefix="zct-fight-", dir="/tmp"))
    folder.chmod(0o711)
    (folder / "agent.py").write_text(AGENT)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def world(transactional_db, vault_key, settings, monkeypatch, place):
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    monkeypatch.setattr(folders, "SWEEP_S", 2)
    made = World(settings, monkeypatch)
    settings.HOME, settings.ALLOW_UNPRIVILEGED_PROCESS = place / "home", False
    settings.HOME.mkdir(mode=0o711)
    here = NodeFactory(name="here", runtime="process", port_first=slot.IN_MEMORY[0], port_last=slot.IN_MEMORY[1])
    PlanFactory(slug="pro", pids_limit=64)
    yield made
    runtime = runtimes.runtime_for(here)
    for seen in runtime.list():
        runtime.remove(seen.handle)


@pytest.mark.parametrize("mode", ["fill", "swap", "snatch", "block", "lock"])
def test_a_new_configuration_reaches_an_agent_that_resists(world, monkeypatch, place, mode):
    def argv(_kind, at):
        return (SYSTEM_PYTHON, "-I", "-S", str(place / "agent.py"), mode, str(at.config_dir / "demo.json"))

    monkeypatch.setattr(DemoAgent, "argv", argv)
    made = services.create_tenant(actor=OPERATOR, name="Old", plan="pro", runtime="process", deploy_now=True)
    run = world.drive(made.run)
    assert (run.status, run.error) == ("succeeded", "")
    tenant = world.fresh(made.tenant)
    assert told(tenant) == "Old"
    run = world.drive(services.rename(actor=OPERATOR, tenant=tenant, name="New"))
    assert (run.status, run.error) == ("succeeded", "")
    tenant = world.fresh(tenant)
    assert (told(tenant), tenant.status, tenant.routed) == ("New", Status.RUNNING, True)
    found = {path.name: json.loads(path.read_bytes())["name"] for path in (tenant.folder / "config").iterdir()}
    assert found == {"demo.json": "New"}


def told(tenant):
    with urllib.request.urlopen(f"http://127.0.0.1:{tenant.port}/health", timeout=20) as answer:
        return json.loads(answer.read())["name"]
