"""What a tenant's container can't reach and may not do, tried from inside."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tenants.runtimes.contract import healthy

pytestmark = pytest.mark.docker
# Tries each target given as JSON, and prints which could be reached or read.
PROBE = """
import json, socket, sys
def tcp(host, port):
    socket.create_connection((host, port), timeout=1.5).close()
def unix(path, _):
    socket.socket(socket.AF_UNIX).connect(path)
def file(path, _):
    open(path, "rb").read(1)
reached = []
for kind, what, port in json.loads(sys.argv[1]):
    try:
        globals()[kind](what, port)
        reached.append([kind, what, port])
    except OSError:
        pass
print(json.dumps(reached))
"""
# What the kernel says of the agent's own processes, tini (pid 1) and the interpreter, and of its surroundings.
FACTS = """
import json, os
def status(pid):
    return dict(line.rstrip().split(":\\t", 1) for line in open(f"/proc/{pid}/status") if ":\\t" in line)
def writable(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
def may(act):
    try:
        act()
        return True
    except OSError:
        return False
names = ("CapEff", "CapPrm", "CapBnd", "CapInh", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
mounts = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/mounts")}
import resource
open("/tmp/x", "w").write("#!/usr/bin/python3\\n"); os.chmod("/tmp/x", 0o755)
print(json.dumps({
    "pids": {pid: {n: status(pid)[n].strip() for n in names} for pid in os.listdir("/proc") if pid.isdigit()},
    "writable": [p for p in ("/x", "/etc/x", "/config/x", "/data/x", "/tmp/x", "/usr/x", "/proc/sys/kernel/hostname")
                 if writable(p)],
    "root": mounts["/"], "tmp": mounts["/tmp"], "config": mounts["/config"],
    "exec_in_tmp": may(lambda: os.execv("/tmp/x", ["/tmp/x"])),
    "chroot": may(lambda: os.chroot("/data")),
    "chown": may(lambda: os.chown("/data", 0, 0)),
    "setuid": may(lambda: os.setuid(0)),
    "devices": sorted(os.listdir("/dev")),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "hostname": os.uname().nodename,
}))
"""


def probe(bench, handle, targets):
    result = bench.runtime.exec(handle, bench.code(PROBE, json.dumps(targets)), timeout_s=120)
    assert result.exit_code == 0, result.output
    return [tuple(target) for target in json.loads(result.output)]


def addresses(bench, handle):
    """(the container's address, its network's gateway)."""
    networks = bench.runtime.engine.call("inspect_container", handle.id)["NetworkSettings"]["Networks"]
    (network,) = networks.values()
    return network["IPAddress"], network["Gateway"]


def listening(stack, family, address):
    listener = stack.enter_context(socket.socket(family))
    listener.bind(address)
    listener.listen()
    return listener.getsockname()


def test_g12_a_tenant_reaches_no_other_tenant_and_nothing_of_the_platform(docker_bench, installation, settings):
    bench = docker_bench
    installation.ensure_network(500)
    one, prober = bench.serving()
    two, neighbour = bench.serving()
    three, distant = bench.serving(slot=500)
    (own_ip, gateway), (neighbour_ip, _), (distant_ip, distant_gateway) = (
        addresses(bench, handle) for handle in (prober, neighbour, distant)
    )
    assert len({own_ip, neighbour_ip, distant_ip}) == 3
    assert gateway != distant_gateway
    database = Path(settings.DATABASES["default"]["NAME"]).absolute()
    with ExitStack() as stack:
        web = listening(stack, socket.AF_INET, ("127.0.0.1", 0))[1]
        admin = f"{stack.enter_context(tempfile.TemporaryDirectory(prefix='zca-'))}/caddy-admin.sock"
        listening(stack, socket.AF_UNIX, admin)
        engine = settings.DOCKER_HOST.removeprefix("unix://")
        forbidden = [
            ("tcp", neighbour_ip, two.listen_port),
            ("tcp", distant_ip, three.listen_port),
            *(("tcp", host, port) for host in (gateway, distant_gateway, "127.0.0.1") for port in (two.port, web)),
            *(("tcp", host, one.port) for host in (gateway, "127.0.0.1")),
            *(("unix", path, 0) for path in (engine, "/run/docker.sock", admin)),
            *(
                ("file", str(path), 0)
                for path in (database, f"{one.folder}/config", f"{two.folder}/data", "/etc/shadow")
            ),
        ]
        # Each is there to be reached: the probe sees the difference, and so does the host.
        assert os.path.exists(engine)
        assert os.path.exists(admin)
        assert probe(bench, prober, [("tcp", own_ip, one.listen_port)]) == [("tcp", own_ip, one.listen_port)]
        assert all(healthy(spec.port) for spec in (one, two, three))
        assert probe(bench, prober, forbidden) == []


def test_g12_a_tenants_port_listens_on_the_loopback_alone(docker_bench, installation):
    spec, handle = docker_bench.serving()
    _, gateway = addresses(docker_bench, handle)
    raw = installation.engine.call("inspect_container", handle.id)
    ports = raw["NetworkSettings"]["Ports"]
    assert ports == {f"{spec.listen_port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(spec.port)}]}
    with pytest.raises(OSError):
        socket.create_connection((gateway, spec.port), timeout=2)


def test_g10_what_runs_is_confined_as_it_was_asked(docker_bench):
    spec, handle = docker_bench.serving(pids=48, memory_mb=96, cpus=0.75)
    facts = json.loads(docker_bench.runtime.exec(handle, docker_bench.code(FACTS)).output)
    assert len(facts["pids"]) >= 3  # tini, the agent, the probe
    for status in facts["pids"].values():
        assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(spec.uid)}
        assert set(status["Groups"].split()) <= {str(spec.uid)}
    assert facts["writable"] == ["/data/x", "/tmp/x"]
    assert "ro" in facts["root"]
    assert "ro" in facts["config"]
    assert {"rw", "nosuid", "noexec", "size=65536k"} <= set(facts["tmp"])
    assert not any(facts[act] for act in ("exec_in_tmp", "chroot", "chown", "setuid"))
    assert not {"sda", "kmsg", "mem", "docker.sock"} & set(facts["devices"])
    assert (facts["core"], facts["nofile"]) == ([0, 0], [16_384, 16_384])
    assert facts["hostname"] == spec.hostname


def test_g10_the_engine_holds_the_limits_and_the_caps_on_logs(docker_bench, installation, settings):
    spec, handle = docker_bench.running()
    host = installation.engine.call("inspect_container", handle.id)["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == spec.memory_mb * 1_048_576
    assert (host["NanoCpus"], host["PidsLimit"]) == (int(spec.cpus * 1e9), spec.pids)
    assert host["LogConfig"]["Config"] == {"max-size": settings.LOG_MAX_SIZE, "max-file": str(settings.LOG_MAX_FILES)}
    assert not any(host[key] for key in ("Privileged", "CapAdd", "Devices", "PidMode", "GroupAdd", "VolumesFrom"))


def test_w7_no_secret_is_in_inspect(docker_bench, installation):
    spec = docker_bench.make_spec()
    canary = "canary-c0ffee-of-a-secret"
    installation.folders.write_config(Path(spec.folder), spec.uid, {"agent.toml": canary.encode()})
    handle = docker_bench.runtime.create(spec)
    docker_bench.runtime.start(handle)
    read = docker_bench.runtime.exec(handle, docker_bench.code("print(open('/config/agent.toml').read())"))
    assert canary in read.output
    assert canary not in json.dumps(installation.engine.call("inspect_container", handle.id))
