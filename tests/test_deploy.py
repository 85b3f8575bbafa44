"""What is under ``deploy/``: units that systemd accepts and rates, configurations that Caddy takes, and a compose file
whose containers are as confined as their comments say."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.architecture import ROOT
from tests.factories import TenantFactory
from tests.slot import IN_MEMORY
from tests.zcplatform.serving import wait_for
from zcplatform.lib.env import PREFIX

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
LIMITS = {"zcplatform-web.service": 2.5, "zcplatform-workers.service": 2.5, "zcplatform.service": 2.5}
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def installed(tmp_path):
    """The units with their programs in a place where they are, as ``verify`` looks for them."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("zcplatform", "caddy"):
        (programs / name).symlink_to(sys.executable)
    for unit in UNITS:
        text = unit.read_text().replace("/opt/zcplatform/.venv/bin", str(programs))
        (tmp_path / unit.name).write_text(text.replace("Documentation=file:/opt", "Documentation=file:/"))
    return tmp_path


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(installed, unit):
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed / unit.name)]
    done = subprocess.run(argv, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


@analyze
def test_a_unit_that_systemd_does_not_accept_is_seen(installed):
    path = installed / UNITS[0].name
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystem=perhaps"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)
    assert "Failed to parse protect system value" in done.stderr


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_rates_the_unit_as_hardened(unit):
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    said = subprocess.run(argv, capture_output=True, text=True).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level and float(level[1]) <= LIMITS.get(unit.name, 2.5), said[-300:]


def test_the_web_never_sees_the_engine():
    web = (ROOT / "deploy" / "systemd" / "zcplatform-web.service").read_text()
    assert "docker\n" not in re.findall(r"SupplementaryGroups=(.*\n)", web)
    assert "-/var/run/docker.sock" in web
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    holders = {name for name, service in compose.items() if "docker.sock" in str(service.get("volumes"))}
    assert holders == {"workers", "engine-proxy"}


def test_every_container_of_the_platform_is_confined():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    assert set(compose) == {"web", "workers", "engine-proxy", "caddy", "postgres", "redis"}
    for name, service in compose.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped", name
        assert not service.get("privileged") and "ports" not in service, name
        if name != "postgres":  # its entry point changes the owner of its folder
            assert service["cap_drop"] == ["ALL"] and service["read_only"], name
    assert {name for name, service in compose.items() if service.get("profiles") == ["postgres"]} == {
        "postgres",
        "redis",
    }


def test_the_profile_with_redis_points_the_platform_at_its_socket():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    redis = compose["services"]["redis"]
    socket = redis["command"][redis["command"].index("--unixsocket") + 1]
    assert redis["network_mode"] == "none" and redis["command"][1:3] == ["--port", "0"]
    for name in ("web", "workers"):
        service = compose["services"][name]
        assert f"${{COMPOSE_PROFILES:+unix://{socket}}}" in service["environment"]["ZCPLATFORM_REDIS_URL"]
        assert set(redis["volumes"]) <= set(service["volumes"])
    assert "uid=999,gid=990,mode=0750" in compose["volumes"]["redis-socket"]["driver_opts"]["o"]
    assert redis["user"] == "999:990"


def test_every_setting_that_deploy_names_exists():
    from tests.test_docs import settings_in_code

    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".py"]
    known = set(settings_in_code()) | {f"{name}_FILE" for name in settings_in_code()}
    for path in files:
        named = set(re.findall(rf"{PREFIX}([A-Z_]+)(?:=|:|\}})", path.read_text()))
        assert named <= known, (path.name, named - known)


def test_the_image_is_built_as_an_ordinary_user_from_the_lock():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert text.index("USER 990:990") < text.index("ENTRYPOINT")


def test_the_image_holds_our_code_compiled():
    """Its user may not write beside it, so each process would compile all of it anew."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (compiled,) = re.findall(r"-m compileall -q --invalidation-mode unchecked-hash (.+)", text)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(compiled.split()) == sorted(name.removesuffix("*") for name in packages)


def test_nothing_of_an_installation_or_of_git_gets_into_the_image():
    """COPY takes all that is not named here: secrets, and an environment that would replace the image's own."""
    left_out = set((ROOT / ".dockerignore").read_text().splitlines())
    assert {".git", ".venv", "data", "deploy/.env", "platform.toml"} <= left_out
    ours = {line.rstrip("/").removeprefix("*") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert ours <= {line.removeprefix("**/").removeprefix("*") for line in left_out}


def test_compose_needs_nothing_that_its_settings_do_not_name():
    """A variable that is needed is needed by every command, the first one too."""
    named = set(re.findall(r"^#?(\w+)=", (ROOT / "deploy" / ".env.example").read_text(), re.MULTILINE))
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) <= named
    assert "bootstrap prints" not in text


def test_what_settings_name_is_there_in_the_containers():
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    paths = re.findall(r"^#?ZCPLATFORM_\w+=(/\S+)$", (ROOT / "deploy" / ".env.example").read_text(), re.MULTILINE)
    assert len(paths) > 5
    for path in paths:
        mounted = [volume for volume in services["workers"]["volumes"] if path.startswith("/etc/zcplatform/")]
        assert "/etc/zcplatform:/etc/zcplatform:ro" in mounted or path.startswith(("/var/lib", "/var/backups")), path
    assert "/etc/zcplatform:/etc/zcplatform:ro" in services["web"]["volumes"]


def test_the_first_command_finds_the_database_of_the_profile():
    """``bootstrap`` runs before anything was brought up, and without the profile there is nothing to wait for."""
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    for name in ("web", "workers"):
        needed = services[name]["depends_on"]
        assert needed["postgres"] == {"condition": "service_healthy", "required": False}
        assert needed["redis"] == {"condition": "service_started", "required": False}
    assert services["postgres"]["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-h", "127.0.0.1"]


def test_who_makes_a_socket_may_write_to_its_folder():
    """A plain volume belongs to root, and no capability helps; Caddy as another user could not bind port 443."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    for name, mode in (("engine-proxy", "0750"), ("caddy-admin", "0770")):
        assert f"uid=990,gid=990,mode={mode}" in compose["volumes"][name]["driver_opts"]["o"]
    caddy = compose["services"]["caddy"]
    assert (caddy["user"], caddy["cap_drop"], caddy["cap_add"]) == ("0:990", ["ALL"], ["NET_BIND_SERVICE"])


@pytest.fixture
def passable():
    """A folder that other users get into; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory(prefix="zcdeploy-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize("owner", ["nobody", "root"])
def test_the_command_runs_as_the_homes_user_with_the_units_settings(passable, owner):
    home, program = passable / "home", passable / "program"
    home.mkdir()
    shutil.chown(home, owner)
    program.write_text('#!/bin/sh\nid -un; echo "$ZCPLATFORM_DOMAIN"; printf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (passable / "zcplatform.env").write_text(f"ZCPLATFORM_HOME={home}\nZCPLATFORM_DOMAIN='agents of mine'\n")
    text = (ROOT / "deploy" / "zcplatform").read_text().replace("/opt/zcplatform/.venv/bin/zcplatform", str(program))
    script = passable / "zcplatform"
    script.write_text(text.replace("/etc/zcplatform", str(passable)))
    done = subprocess.run(["sh", script, "chat", "acme", "two words"], capture_output=True, text=True)
    assert done.stdout.splitlines() == [owner, "agents of mine", "chat", "acme", "two words"], done.stderr


@pytest.mark.caddy
def test_caddy_takes_both_configurations(tmp_path):
    caddy = Path(sys.executable).with_name("caddy")
    for argv in (["validate", "--config", "bootstrap.json"], ["adapt", "--validate", "--config", "Caddyfile"]):
        done = subprocess.run([caddy, *argv], cwd=ROOT / "deploy" / "caddy", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.mark.caddy
def test_caddy_gets_a_certificate_only_for_names_that_the_platform_knows(tmp_path):
    """The shipped bootstrap.json with another socket, Caddy's own authority and a stand-in for the platform."""
    asked = []

    class Platform(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if "acme.agents.example.com" in self.path else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Platform)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = json.loads((ROOT / "deploy" / "caddy" / "bootstrap.json").read_text())
    config["admin"]["listen"] = f"unix/{tmp_path}/admin.sock|0600"
    automation = config["apps"]["tls"]["automation"]
    endpoint = automation["on_demand"]["permission"]["endpoint"]
    automation["on_demand"]["permission"]["endpoint"] = endpoint.replace("8080", str(server.server_port))
    automation["policies"][0]["issuers"] = [{"module": "internal"}]
    port = IN_MEMORY[1]
    site = {"listen": [f"127.0.0.1:{port}"], "routes": [], "tls_connection_policies": [{}]}
    config["apps"]["http"] = {"servers": {"zcplatform": {**site, "automatic_https": {"disable_redirects": True}}}}
    (tmp_path / "c.json").write_text(json.dumps(config))
    env = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    caddy = subprocess.Popen(
        [Path(sys.executable).with_name("caddy"), "run", "--config", tmp_path / "c.json"], env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for((tmp_path / "admin.sock").exists, "Caddy runs")
        assert wait_for(lambda: shakes_hands("acme.agents.example.com", port), "a certificate is made")
        assert not shakes_hands("stranger.agents.example.com", port)
        assert any("stranger" in path for path in asked)
    finally:
        caddy.kill()
        caddy.wait()
        server.shutdown()


def shakes_hands(name, port):
    import socket

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            return bool(tls.getpeercert(binary_form=True))
    except OSError:
        return False


@pytest.mark.parametrize(
    ("name", "status"),
    [("localhost", 200), ("api.localhost", 200), ("ACME.localhost", 200), ("gone.localhost", 404),
     ("acme.localhost.", 200),
     ("stranger.localhost", 404), ("a.acme.localhost", 404), ("acme.example.test", 404), ("", 404)],
)  # fmt: skip
def test_the_platform_knows_its_own_names_and_living_tenants(db, client, name, status):
    TenantFactory(slug="acme")
    TenantFactory(slug="gone", status="deleted")
    answer = client.get("/internal/certificate", {"domain": name}, headers={"host": "127.0.0.1:8080"})
    assert answer.status_code == status


@pytest.mark.parametrize("bind", ["::1", "192.0.2.7"])
def test_the_router_may_ask_wherever_the_web_listens(db, client, settings, bind):
    settings.BIND, settings.ALLOWED_HOSTS = bind, ["*"]
    host = f"[{bind}]:8080" if ":" in bind else f"{bind}:8080"
    asked = {"path": "/internal/certificate", "data": {"domain": "localhost"}, "headers": {"host": host}}
    assert client.get(**asked, REMOTE_ADDR=bind).status_code == 200
    assert client.get(**asked, REMOTE_ADDR="192.0.2.8").status_code == 404


def test_only_who_is_on_this_machine_may_ask(db, client, settings):
    settings.ALLOWED_HOSTS = ["agents.example.com"]
    answer = client.get("/internal/certificate", {"domain": "localhost"}, headers={"host": "agents.example.com"})
    assert answer.status_code == 404


def test_what_a_test_needs_is_installed_by_ci():
    assert "systemd" in (ROOT / ".ci" / "run").read_text()
