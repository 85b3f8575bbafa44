"""The main job, end to end: a real engine, a real Caddy, real web and worker processes, driven by the commands.

One installation is brought up for the whole module; the story's chapters run in order on it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
import httpx
import pytest

from tests import slot
from zcplatform.demo import Demo

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.timeout(600)]
CANARY = "canary-" + "41d7c09e52aa"
CHANNEL = "webhook:secret=@STORY_KEY"


def without_the_suite() -> dict[str, str]:
    """The environment less what the suite has set for itself: an installation under test must not see it."""
    ours = ("ZCPLATFORM_", "ZC_TEST_HOME", "DJANGO_SETTINGS_MODULE", "ZC_FAILPOINT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Installation(Demo):
    """The demo's own way of bringing a platform up, with another story to tell."""

    def __init__(self, home: Path) -> None:
        super().__init__("docker", home, lambda _line: None, ports=(0, 0))
        self.env = (
            without_the_suite()
            | self._settings()
            | slot.APART
            | {"ZCPLATFORM_PORT_RANGE": slot.text(slot.CONTAINERS), "STORY_KEY": CANARY}
        )
        self.engine = docker.from_env(timeout=30)

    def json(self, *argv: str) -> dict:
        return json.loads(self.manage(argv[0], "--json", *argv[1:]))

    def python(self, code: str) -> str:
        """Run a line with the models at hand, for what has no command yet."""
        return self.manage("shell", "-v", "0", "-c", code)

    def call(self, tenant: dict, method: str = "POST", path: str = "/v1/chat/completions", **more) -> httpx.Response:
        headers = {"Host": f"{tenant['tenant']}.localhost:{self.proxy}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.proxy}{path}"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False, **more)

    def ask(self, tenant: dict, text: str, token: str | None = None, **body) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {token or tenant['access_token']}"}
        return self.call(tenant, json={"messages": [{"role": "user", "content": text}], **body}, headers=bearer)

    def webhook(self, tenant: dict) -> httpx.Response:
        """A signed call of the agent's own public path."""
        body = b'{"message": "hi"}'
        signature = "sha256=" + hmac.new(CANARY.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Webhook-Signature": signature, "Content-Type": "application/json"}
        return self.call(tenant, path="/webhook", content=body, headers=headers)

    def container(self, tenant: dict):
        found = self.engine.containers.list(all=True, filters={"label": f"zcplatform.tenant={tenant['id']}"})
        assert len(found) <= 1
        return found[0] if found else None

    def leftovers(self) -> dict[str, list[str]]:
        label = f"zcplatform.instance={(self.home / 'instance.id').read_text()}"
        mine = {"label": label}
        return {
            "containers": [c.name for c in self.engine.containers.list(all=True, filters=mine)],
            "networks": [n.name for n in self.engine.networks.list(filters=mine)],
            "folders": [p.name for p in (self.home / "tenants").iterdir()],
            "routes": self.tenant_hosts(),
        }

    def tenant_hosts(self) -> list[str]:
        transport = httpx.HTTPTransport(uds=str(self.home / "run" / "caddy.sock"))
        with httpx.Client(transport=transport) as client:
            text = client.get("http://caddy/config/").text
        return [name for name in ("alpha.localhost", "beta.localhost") if f'"{name}"' in text]


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(prefix="zcstory-") as folder:
        Path(folder).chmod(0o711)
        made = Installation(Path(folder))
        try:
            made.manage("bootstrap", "--admin-email", "admin@example.test")
            made._serve()
            yield made
        finally:
            made.down()


@pytest.fixture(scope="module")
def alpha(place):
    return place.json("provision", "Alpha", "--plan", "pro", "--runtime", "docker", "--channel", CHANNEL)


@pytest.fixture(scope="module")
def beta(place):
    return place.json("provision", "Beta", "--plan", "pro", "--runtime", "docker")


def test_a_provisioned_tenant_answers_at_its_own_address(place, alpha):
    assert (alpha["status"], alpha["url"]) == ("running", f"http://alpha.localhost:{place.proxy}")
    answer = place.ask(alpha, "hello")
    assert answer.status_code == 200
    assert "hello" in answer.json()["choices"][0]["message"]["content"]


def test_it_answers_as_a_stream(place, alpha):
    answer = place.ask(alpha, "one two three", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"] for event in events[:-1]]
    assert "one two three" in "".join(c[0]["delta"].get("content") or "" for c in deltas if c)


def test_the_chat_command_goes_the_same_way(place, alpha):
    assert "from a shell" in place.manage("chat", "alpha", "from a shell")
    assert "as it comes" in place.manage("chat", "alpha", "as it comes", "--stream")


def test_only_public_paths_are_reachable(place, alpha):
    assert place.call(alpha, "GET", "/health").status_code == 404
    assert place.call(alpha, "GET", "/metrics").status_code == 404
    assert place.call(alpha, "GET", "/admin/").status_code == 404
    assert place.call(alpha, path="/webhook", json={"message": "unsigned"}).status_code == 401
    assert place.webhook(alpha).status_code == 200


def test_a_wrong_token_and_anothers_token_get_the_same_refusal(place, alpha, beta):
    wrong = place.ask(alpha, "x", token="zct_" + "x" * 43)
    foreign = place.ask(alpha, "x", token=beta["access_token"])
    assert wrong.status_code == foreign.status_code == 401
    plain = [{**answer.json()["error"], "request_id": ""} for answer in (wrong, foreign)]
    assert plain[0] == plain[1]


def test_g10_inspect_shows_every_isolation_property_and_no_secret(place, alpha):
    attrs = place.container(alpha).attrs
    host = attrs["HostConfig"]
    uid = int(attrs["Config"]["User"].split(":")[0])
    assert uid >= 200_000
    assert attrs["Config"]["User"] == f"{uid}:{uid}"
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in str(host["SecurityOpt"])
    assert host["ReadonlyRootfs"] is True
    assert {"rw", "noexec", "nosuid", "size=64m"} <= set(host["Tmpfs"]["/tmp"].split(","))
    assert host["Memory"] == host["MemorySwap"] == 1024 * 1024 * 1024
    assert host["NanoCpus"] == 1_000_000_000
    assert host["PidsLimit"] == 128
    assert not host["Privileged"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-size": "50m", "max-file": "3"}
    bindings = [b for ports in host["PortBindings"].values() for b in ports]
    assert [b["HostIp"] for b in bindings] == ["127.0.0.1"]
    assert {m["Destination"]: m["RW"] for m in attrs["Mounts"]} == {"/config": False, "/data": True}
    assert attrs["Config"]["Hostname"] == f"zc-{alpha['id'].replace('-', '')[:12]}"
    config = (place.home / "tenants" / alpha["id"] / "config" / "demo.json").read_text()
    text = json.dumps(attrs)
    for secret in (alpha["access_token"], json.loads(config)["token"], CANARY):
        assert secret not in text


def test_g12_from_inside_a_tenant_nothing_of_the_platform_and_no_other_tenant_is_reached(place, alpha, beta):
    inside = place.container(alpha)
    other = place.container(beta).attrs
    network = next(iter(other["NetworkSettings"]["Networks"].values()))
    port = next(int(b[0]["HostPort"]) for b in other["HostConfig"]["PortBindings"].values())
    targets = [
        (network["IPAddress"], 8080),
        (network["Gateway"], port),
        (network["Gateway"], place.web),
        (network["Gateway"], place.proxy),
        ("127.0.0.1", place.web),
        ("127.0.0.1", place.proxy),
    ]
    paths = [
        "/var/run/docker.sock",
        str(place.home / "run" / "caddy.sock"),
        str(place.home / "zcplatform.db"),
        str(place.home / "keys"),
        str(place.home / "tenants" / beta["id"]),
    ]
    code = (
        "import json, os, socket, sys\n"
        "targets, paths = json.loads(sys.argv[1])\n"
        "reached = [p for p in paths if os.path.exists(p)]\n"
        "for host, port in targets:\n"
        "    s = socket.socket(); s.settimeout(1.5)\n"
        "    try:\n"
        "        s.connect((host, port)); reached.append([host, port])\n"
        "    except OSError: pass\n"
        "    finally: s.close()\n"
        "own = socket.create_connection(('127.0.0.1', 8080), 2); own.close()\n"
        "print(json.dumps(reached))\n"
    )
    result = inside.exec_run(["python3", "-c", code, json.dumps([targets, paths])])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == [], "reached from inside"
    # The same targets answer from the host, so that the probe above could have failed.
    assert [path for path in paths if not os.path.exists(path)] == []
    for host, wanted in (("127.0.0.1", port), ("127.0.0.1", place.web), ("127.0.0.1", place.proxy)):
        socket.create_connection((host, wanted), 2).close()


def test_files_of_a_tenant_belong_to_its_uid_alone(place, alpha):
    folder = place.home / "tenants" / alpha["id"]
    uid = int(place.container(alpha).attrs["Config"]["User"].split(":")[0])
    modes = {part: (folder / part).stat() for part in ("config", "data", "config/demo.json")}
    assert {part: (info.st_mode & 0o777, info.st_uid) for part, info in modes.items()} == {
        "config": (0o700, uid),
        "data": (0o700, uid),
        "config/demo.json": (0o400, uid),
    }


def test_reconfigure_replaces_the_agent_and_nothing_else(place, alpha, beta):
    before, neighbour = place.container(alpha).id, place.container(beta).id
    place.python(
        "from tenants import cli, configuration\n"
        "from zcplatform.lib.actors import OPERATOR\n"
        "tenant = cli.find_tenant('alpha')\n"
        "given = configuration.ConfigInput(extra={'stream_delay_ms': 0})\n"
        "run = configuration.update(actor=OPERATOR, tenant=tenant, given=given)\n"
        "assert cli.drive(run).status == 'succeeded'\n"
    )
    assert place.container(alpha).id != before
    assert place.container(beta).id == neighbour
    assert place.ask(alpha, "again").status_code == 200


def test_restart_keeps_the_container(place, alpha):
    before = place.container(alpha)
    assert place.json("restart", "alpha")["status"] == "running"
    after = place.container(alpha)
    assert after.id == before.id
    assert after.attrs["State"]["StartedAt"] != before.attrs["State"]["StartedAt"]
    assert place.ask(alpha, "back").status_code == 200


def test_suspend_takes_it_down_and_reactivate_brings_it_back(place, alpha):
    assert place.json("suspend", "alpha", "--hold", "billing")["status"] == "suspended"
    assert place.container(alpha).status == "exited"
    assert place.ask(alpha, "x").status_code == 503
    assert place.webhook(alpha).status_code == 404
    assert place.json("reactivate", "alpha", "--hold", "billing")["status"] == "running"
    assert place.ask(alpha, "x").status_code == 200


def test_resize_gives_the_new_limits(place, alpha):
    assert place.json("resize", "alpha", "--plan", "enterprise")["status"] == "running"
    assert place.container(alpha).attrs["HostConfig"]["Memory"] == 4096 * 1024 * 1024
    assert place.ask(alpha, "big").status_code == 200


def test_logs_and_exec(place, alpha):
    assert isinstance(place.json("logs", "alpha")["lines"], list)
    result = place.json("exec", "alpha", "--", "python3", "-c", "import os; print(os.getuid())")
    assert int(result["output"]) >= 200_000


def test_what_is_removed_behind_our_back_is_put_back(place, alpha):
    place.container(alpha).remove(force=True)
    found = place.json("reconcile", "--dry-run")["differences"]
    assert [d["what"] for d in found] in (["agent_absent"], []), "found, unless the sweep was faster"
    place.manage("reconcile")
    until_running(place, alpha)
    assert place.json("reconcile", "--dry-run")["differences"] == []


def until_running(place, tenant):
    for _ in range(60):
        if place.container(tenant) and place.ask(tenant, "x").status_code == 200:
            return
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)
    raise AssertionError("it did not come back")


def test_deleted_tenants_leave_nothing(place, alpha, beta):
    port = next(int(b[0]["HostPort"]) for b in place.container(beta).attrs["HostConfig"]["PortBindings"].values())
    for tenant in ("alpha", "beta"):
        assert place.json("deprovision", tenant, "--yes")["status"] == "deleted"
    left = place.leftovers()
    assert (left["containers"], left["folders"], left["routes"]) == ([], [], [])
    assert place.ask(alpha, "x").status_code in (401, 404)
    assert {p.name for p in (place.home / "trash").iterdir()} == {alpha["id"], beta["id"]}
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    place.manage("audit_verify")


def test_no_secret_stands_in_the_logs_or_the_audit(place, alpha, beta):
    log = (place.home / "run" / "serve.log").read_text(errors="replace")
    audit = place.python(
        "from audit.models import AuditEntry; print(list(AuditEntry.objects.values_list('detail_json')))"
    )
    for secret in (alpha["access_token"], beta["access_token"], CANARY):
        assert secret not in log
        assert secret not in audit


def test_the_networks_go_with_the_installation(place):
    assert os.path.isdir(place.home / "tenants")
    place.manage("teardown", "--yes")
    assert place.leftovers()["networks"] == []
