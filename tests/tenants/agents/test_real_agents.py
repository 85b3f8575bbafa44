"""Real OpenClaw and nanobot through their whole life, provisioned by the product and behind its fences.

Their model is a stand-in outside; they are in the mode ``gateway``, so every word they exchange with it goes through
the proxy. Marked ``agents``: the images (``build_image --kind``) and, for the process, ``nanobot`` on the PATH.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests import slot
from tests.tenants.egress.outside import OTHER_PUBLIC, PUBLIC, outside
from tests.tenants.runtimes.contract import free_port
from tests.zcplatform.serving import Home, wait_for

pytestmark = [pytest.mark.agents, pytest.mark.docker, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = f"http://{PUBLIC}:8000/v1"
PREFIX = slot.PREFIX
PLANS = """
[plans.roomy]
name = "Roomy"
max_channels = 2
max_members = 3
max_messages_per_day = 500
max_tokens_per_month = 1000000
cpu_limit = 2.0
memory_limit_mb = 1536
pids_limit = 128
disk_limit_mb = 1024

[plans.roomier]
name = "Roomier"
max_channels = 2
max_members = 3
max_messages_per_day = 500
max_tokens_per_month = 1000000
cpu_limit = 2.0
memory_limit_mb = 2048
pids_limit = 256
disk_limit_mb = 1024
"""


class PatientHome(Home):
    """OpenClaw takes up to 90 s to come up, and more on a busy machine."""

    limit_s = 400


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    folder.chmod(0o711)
    (folder / "platform.toml").write_text(PLANS)
    with outside():
        made = PatientHome(
            folder,
            RUNTIME="docker",
            ROUTER="direct",
            PORT=str(free_port()),
            ALLOW_HTTP_ENDPOINTS="1",
            EGRESS_DEFAULT="gateway",
            PORT_RANGE=slot.text(slot.CONTAINERS),
        )
        made.env["MODEL_KEY"] = "sk-not-a-key"
        try:
            with made.serve() as serve:
                serve.wait_until_said("workers of runs: 2", "egress proxy on port", "web on")
                yield made
                assert made.manage("teardown", "--yes").returncode == 0
                assert containers() == []
        finally:
            made.manage("teardown", "--yes")


def containers():
    command = ["docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"name=^{PREFIX}-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def done(home, *argv):
    result = home.manage(*argv)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def provision(home, name, agent, plan, *more):
    model = ("--provider", "custom", "--model", "test-model", "--base-url", MODEL, "--provider-key-env", "MODEL_KEY")
    return json.loads(done(home, "provision", name, "--agent", agent, "--plan", plan, *model, *more, "--json"))


def chats(home, slug, *more):
    """One message through the tenant's own address; the model repeats it."""
    result = home.manage("chat", slug, "Hello number seven", *more)
    assert "model says:" in result.stdout, result.stdout + result.stderr + home.manage("logs", slug).stdout
    return "Hello number seven" in result.stdout


def running(home, slug):
    """By the platform's word, and with a container."""
    return (
        f"{PREFIX}-{slug}" in containers()
        and json.loads(done(home, "egress", slug, "--json"))["status"] == "running"
        and json.loads(done(home, "reconcile", "--dry-run", "--json"))["differences"] == []
    )


def until(what, why):
    """The limit only ends a test that would hang: OpenClaw takes a minute or two to come up."""
    deadline = time.monotonic() + 400
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(1)


def inspect(slug):
    command = ["docker", "inspect", f"{PREFIX}-{slug}"]
    (raw,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return raw


@pytest.mark.parametrize(
    ("agent", "plan", "larger"), [("nanobot", "roomy", "roomier"), ("openclaw", "roomy", "roomier")]
)
def test_the_story_of_a_real_agent_in_a_container(home, agent, plan, larger):
    slug = f"real-{agent}"
    made = provision(home, f"Real {agent}", agent, plan)
    assert (made["tenant"], made["status"]) == (slug, "running")
    assert chats(home, slug)
    assert chats(home, slug, "--stream")
    hostname = inspect(slug)["Config"]["Hostname"]

    done(home, "restart", slug)
    assert chats(home, slug)

    # Killed and made anew: what it kept in its folder is bound to its hostname, which must be the same again.
    subprocess.run(["docker", "kill", f"{PREFIX}-{slug}"], check=True, capture_output=True)
    subprocess.run(["docker", "rm", "--force", f"{PREFIX}-{slug}"], check=True, capture_output=True)
    until(lambda: running(home, slug), "the sweep makes it again")
    assert inspect(slug)["Config"]["Hostname"] == hostname
    assert chats(home, slug)

    done(home, "resize", slug, "--plan", larger)
    assert inspect(slug)["HostConfig"]["Memory"] == 2048 * 1024 * 1024
    assert chats(home, slug)

    folder = home.folder / "tenants" / made["id"]
    assert folder.is_dir()
    done(home, "deprovision", slug, "--yes", "--purge")
    assert f"{PREFIX}-{slug}" not in containers()
    assert not folder.exists()
    assert not (home.folder / "trash" / made["id"]).exists()


def test_a_real_agent_reaches_its_model_and_nothing_else(home):
    """G12, for a program that is not ours: what its own HTTP client may reach."""
    provision(home, "Fenced", "nanobot", "roomy")
    code = (
        "import sys; sys.path.insert(0, '/opt/nanobot'); import httpx\n"
        "for url in sys.argv[1:]:\n"
        "    try: print(httpx.get(url, timeout=10).status_code)\n"
        "    except httpx.HTTPError as error: print(type(error).__name__)\n"
    )
    urls = [f"{MODEL}/models", f"http://{OTHER_PUBLIC}/", "http://169.254.169.254/latest/meta-data/"]
    answers = done(home, "exec", "fenced", "--", "python3", "-c", code, *urls).split()
    assert answers == ["200", "403", "403"]
    done(home, "deprovision", "fenced", "--yes", "--purge")


def test_a_real_nanobot_as_a_process(tmp_path_factory):
    """The process runtime can't narrow the network, so its model is on the loopback, and it says so when asked."""
    from tests.tenants.agents.test_demo_agent import TOKEN, Running

    folder = tmp_path_factory.mktemp("process")
    folder.chmod(0o711)
    (folder / "platform.toml").write_text(PLANS)
    (folder / "model").mkdir()
    model = Running(folder / "model").wait()
    home = PatientHome(folder, ROUTER="direct", PORT=str(free_port()), ALLOW_HTTP_ENDPOINTS="1")
    home.env["MODEL_KEY"] = TOKEN.reveal()
    try:
        with home.serve() as serve:
            serve.wait_until_said("workers of runs: 2", "web on")
            address = ("--provider", "custom", "--model", "m", "--base-url", f"{model.url}/v1")
            key = ("--provider-key-env", "MODEL_KEY")
            done(home, "provision", "Bot", "--agent", "nanobot", "--plan", "roomy", *address, *key)
            assert "Hello number seven" in done(home, "chat", "bot", "Hello number seven")
            done(home, "restart", "bot")
            assert "Hello number seven" in done(home, "chat", "bot", "Hello number seven")
            kill_agent(home)
            wait_for(
                lambda: "number eight" in home.manage("chat", "bot", "number eight").stdout, "its keeper restarts it"
            )
            refused = home.manage("egress", "bot", "--mode", "gateway")
            assert refused.returncode == 1
            assert "share the host's network" in refused.stderr
            done(home, "deprovision", "bot", "--yes", "--purge")
            assert not list((folder / "tenants").iterdir())
    finally:
        home.manage("teardown", "--yes")
        model.end()


def kill_agent(home):
    wanted = f"{home.folder}/tenants".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"nanobot" in (process / "cmdline").read_bytes() and wanted in (process / "environ").read_bytes():
                subprocess.run(["kill", "-9", process.name], check=False)
        except OSError:
            continue
