"""G12: what a container reaches in each mode, tried from inside real ones that the product provisioned."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests import slot
from tests.tenants.egress.outside import FORBIDDEN, HOST_SIDE, METADATA, OTHER_PUBLIC, PUBLIC, outside
from tests.tenants.runtimes.contract import free_port
from tests.zcplatform.serving import Home, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.slow]
MODES = ("open", "gateway", "allowlist")
PYTHON = "/usr/bin/python3"
MODEL = f"http://{PUBLIC}:8000/v1"
# Tries each target given as JSON; prints those that could be reached.
PROBE = """
import json, socket, sys
def tcp(host, port):
    socket.create_connection((host, port), timeout=2).close()
def udp(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    s.sendto(b"exfil-by-" + host.encode(), (host, port))
    s.recv(100)
def name(host, _):
    socket.getaddrinfo(host, 443)
def unix(path, _):
    socket.socket(socket.AF_UNIX).connect(path)
def file(path, _):
    open(path, "rb").read(1)
def tunnel(host, port):
    s = socket.create_connection(("gateway.internal", 3128), timeout=5)
    s.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\n".encode())
    if b" 200 " not in s.recv(100):
        raise OSError
    s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    answer = b""
    while piece := s.recv(1000):
        answer += piece
    if host.encode() not in answer:
        raise OSError
def plain(host, port):
    s = socket.create_connection(("gateway.internal", 3128), timeout=5)
    s.sendall(f"GET http://{host}:{port}/x HTTP/1.1\\r\\nHost: other.example\\r\\n\\r\\n".encode())
    answer = b""
    while piece := s.recv(1000):
        answer += piece
    if b" 200 " not in answer:
        raise OSError
reached = []
for kind, what, port in json.loads(sys.argv[1]):
    try:
        globals()[kind](what, port)
        reached.append([kind, what, port])
    except OSError:
        pass
print(json.dumps(reached))
"""


@pytest.fixture(scope="module")
def world():
    with outside() as made:
        yield made


@pytest.fixture(scope="module")
def home(tmp_path_factory, world):
    """A platform with a tenant in each mode, behind a real ``serve``."""
    folder = tmp_path_factory.mktemp("egress")
    folder.chmod(0o711)
    made = Home(
        folder,
        RUNTIME="docker",
        ROUTER="direct",
        PORT=str(free_port()),
        ALLOW_HTTP_ENDPOINTS="1",
        PORT_RANGE=slot.text(slot.CONTAINERS),
    )
    try:
        with made.serve() as serve:
            serve.wait_until_said("workers of runs: 2", "egress proxy on port")
            for mode in MODES:
                provision(made, mode)
            yield made
            torn = made.manage("teardown", "--yes", "--json")
            assert torn.returncode == 0, torn.stderr
            assert "ZC" + mark(made) not in saved(), "teardown takes its rules away"
    finally:
        made.manage("teardown", "--yes")


def provision(home, mode):
    home.env["PROBE_KEY"] = "sk-not-a-key"
    model = ("--provider", "custom", "--model", "m", "--base-url", MODEL, "--provider-key-env", "PROBE_KEY")
    done = home.manage("provision", f"In {mode}", "--agent", "demo", "--no-deploy", *model)
    assert done.returncode == 0, done.stderr
    listed = ("--allow", f"{OTHER_PUBLIC}:80") if mode == "allowlist" else ()
    assert home.manage("egress", f"in-{mode}", "--mode", mode, *listed).returncode == 0
    started = home.manage("start", f"in-{mode}")
    assert started.returncode == 0, started.stderr + started.stdout


def mark(home):
    return bridge_mark((home.folder / "instance.id").read_text().strip())[2:].upper()


def bridge_mark(instance):
    from tenants.egress.bridges import mark

    return mark(instance)


def saved():
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def reached(home, mode, targets):
    done = home.manage("exec", f"in-{mode}", "--", PYTHON, "-I", "-S", "-c", PROBE, json.dumps(targets))
    assert done.returncode == 0, done.stderr
    return [tuple(target) for target in json.loads(done.stdout)]


def inspected(slug):
    command = ["docker", "inspect", f"{slot.PREFIX}-{slug}"]
    (raw,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ((network, attached),) = raw["NetworkSettings"]["Networks"].items()
    return network, attached["IPAddress"], attached["Gateway"]


@pytest.fixture(scope="module")
def host(home):
    """Listeners of the host on every address of it: what stands for sshd, the platform's web, Caddy's admin."""
    with ExitStack() as stack:
        ports = []
        for _ in range(2):
            listener = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
            ports.append(listener.getsockname()[1])
        yield ports


def own_addresses():
    """This machine's addresses: other than the loopback, and that of the link to the outside."""
    words = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    return sorted({word for word in words if ":" not in word} | {HOST_SIDE, "127.0.0.1"})


def forbidden(home, mode, ports):
    """Everything that no mode may reach."""
    others = [inspected(f"in-{other}") for other in MODES if other != mode]
    gateways = {inspected(f"in-{each}")[2] for each in MODES}
    return [
        *(("tcp", address, port) for address in FORBIDDEN for port in (53, 80)),
        *(("udp", address, 53) for address in FORBIDDEN),
        *(("tcp", address, port) for address in {*own_addresses(), *gateways} for port in ports),
        *(("tcp", address, 8080) for _, address, _ in others),
        *(("tcp", gateway, slot.CONTAINERS[0] + n) for gateway in gateways for n in range(3)),
        *(("unix", path, 0) for path in ("/var/run/docker.sock", "/run/docker.sock")),
        ("file", str(home.folder / "zcplatform.db"), 0),
        ("file", str(home.folder / "keys" / "vault.json"), 0),
    ]


def test_every_stand_in_is_there_to_be_reached(world, host):
    """Without it the probes below would prove nothing."""
    for address in (PUBLIC, OTHER_PUBLIC, *FORBIDDEN):
        socket.create_connection((address, 80), timeout=5).close()
    everywhere = {("tcp", address, 80) for address in (PUBLIC, OTHER_PUBLIC, *FORBIDDEN)}
    wait_for(lambda: everywhere <= set(world.seen()), "what came is written down, and not while the next test counts")
    for address in own_addresses():
        socket.create_connection((address, host[0]), timeout=5).close()


@pytest.mark.parametrize("mode", MODES)
def test_g12_no_mode_reaches_metadata_the_lan_the_host_or_other_tenants(home, host, world, mode):
    before = len(world.seen())
    assert reached(home, mode, forbidden(home, mode, host)) == []
    assert world.seen()[before:] == [], "not even a packet without an answer"


@pytest.fixture
def host_ipv6(home):
    """A listener on every IPv6 address of the host: its port, and the addresses that a neighbour on a tenant's bridge
    could try, each with the bridge where it means something there only."""
    bridges = bridge_mark((home.folder / "instance.id").read_text().strip())
    lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    found = {(IPv6Address(int(digits, 16)), device) for digits, _, _, _, _, device in lines if device != "lo"}
    with socket.create_server(("::", 0), family=socket.AF_INET6) as listener:
        linked = [(ip, device) for ip, device in found if ip.is_link_local and device.startswith(bridges)]
        beyond = [(ip, "") for ip, _ in found if not ip.is_link_local]
        yield listener.getsockname()[1], linked + beyond


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
@pytest.mark.parametrize("mode", MODES)
def test_g12_no_mode_reaches_the_host_by_ipv6(home, host_ipv6, mode):
    port, addresses = host_ipv6
    assert any(device for _, device in addresses), "the bridges have an address each"
    for address, device in addresses:  # else the probes below would prove nothing
        socket.create_connection((f"{address}%{device}" if device else str(address), port), timeout=5).close()
    targets = [("tcp", f"{address}%eth0" if device else str(address), port) for address, device in addresses]
    assert reached(home, mode, targets) == []


def test_g12_in_the_mode_gateway_nothing_goes_out_but_to_the_model(home, world):
    before = len(world.seen())
    direct = [("tcp", PUBLIC, 443), ("tcp", PUBLIC, 8000), ("tcp", OTHER_PUBLIC, 80)]
    dns = [("udp", PUBLIC, 53), ("tcp", PUBLIC, 53), ("name", "exfil.example.com", 0)]
    proxied = [("tunnel", OTHER_PUBLIC, 80), ("tunnel", PUBLIC, 443), ("plain", OTHER_PUBLIC, 80)]
    inside = [("tunnel", METADATA, 80), ("tunnel", "127.0.0.1", 22), ("tunnel", "localhost", 22)]
    assert reached(home, "gateway", direct + dns + proxied + inside) == []
    assert world.seen()[before:] == []
    model = ("tunnel", PUBLIC, 8000)
    assert reached(home, "gateway", [model]) == [model]


def test_in_the_mode_gateway_the_agent_chats_with_its_model(home, world):
    answer = home.manage("chat", "in-gateway", "hello")
    assert "model says: hello" in answer.stdout, answer.stderr + answer.stdout


def test_in_the_mode_allowlist_the_listed_hosts_are_reached_and_no_others(home, world):
    allowed = [("tunnel", OTHER_PUBLIC, 80), ("plain", OTHER_PUBLIC, 80), ("tunnel", PUBLIC, 8000)]
    assert reached(home, "allowlist", allowed) == allowed
    refused = [("tunnel", PUBLIC, 80), ("tunnel", OTHER_PUBLIC, 443), ("tunnel", METADATA, 80), ("tcp", PUBLIC, 80)]
    assert reached(home, "allowlist", [*refused, ("name", "exfil.example.com", 0), ("udp", PUBLIC, 53)]) == []


def test_in_the_mode_open_public_addresses_are_reached(home, world):
    targets = [("tcp", PUBLIC, 80), ("tcp", PUBLIC, 443), ("udp", PUBLIC, 53)]
    assert reached(home, "open", targets) == targets
    assert "model says: hello" in home.manage("chat", "in-open", "hello").stdout


def test_a_refused_host_is_audited_once_and_counted(home):
    targets = [("tunnel", "tracker.example.com", 443)] * 3
    assert reached(home, "allowlist", targets) == []
    shown = wait_for(lambda: json.loads(home.manage("egress", "in-allowlist", "--json").stdout)["egress"]["counts"], "")
    assert shown["refused"] >= 3
    rows = audited(home, "egress.refused")
    assert [row["host"] for row in rows].count("tracker.example.com") == 1


def audited(home, action):
    code = (
        "import json; from audit.models import AuditEntry as E;"
        f"print(json.dumps([json.loads(e.detail_json) for e in E.objects.filter(action='{action}')]))"
    )
    done = home.manage("shell", "-v", "0", "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_change_of_the_list_counts_from_the_next_connection_on(home, world):
    target = ("tunnel", PUBLIC, 443)
    assert reached(home, "allowlist", [target]) == []
    before = inspected("in-allowlist")
    assert home.manage("egress", "in-allowlist", "--allow", PUBLIC).returncode == 0
    assert reached(home, "allowlist", [target]) == [target]
    assert inspected("in-allowlist") == before, "the agent was left running"
    assert home.manage("egress", "in-allowlist", "--forget", PUBLIC).returncode == 0
    assert reached(home, "allowlist", [target]) == []


def test_a_change_of_the_mode_moves_the_agent_to_the_other_network(home, world):
    assert home.manage("egress", "in-open", "--mode", "gateway").returncode == 0
    assert inspected("in-open")[0].endswith("-gateway")
    assert reached(home, "open", [("tcp", PUBLIC, 80)]) == []
    assert home.manage("egress", "in-open", "--mode", "default").returncode == 0
    assert reached(home, "open", [("tcp", PUBLIC, 80)]) == [("tcp", PUBLIC, 80)]


def test_flushed_rules_come_back_by_themselves_and_doctor_tells_of_them(home, world):
    """As after an engine's restart, or a person's ``iptables -F``."""
    from tenants.egress.rules import forward_chain

    chain = forward_chain((home.folder / "instance.id").read_text().strip())
    subprocess.run(["iptables", "-F", chain], check=True)
    subprocess.run(["iptables", "-D", "DOCKER-USER", "-j", chain], check=True)
    told = [f["what"] for f in json.loads(home.manage("doctor", "--json").stdout)["findings"] if f["check"] == "egress"]
    wait_for(lambda: f"-A DOCKER-USER -j {chain}" in saved(), "the sweep sets the rules again")
    assert any(chain in line for line in told), told
    assert reached(home, "gateway", [("tcp", METADATA, 80), ("tcp", PUBLIC, 80)]) == []
    assert reached(home, "open", [("tcp", METADATA, 80)]) == []


def test_the_proxy_killed_is_started_again(home, world):
    found = [p for p in Path("/proc").glob("[0-9]*") if is_proxy(p, home)]
    assert len(found) == 1
    subprocess.run(["kill", "-9", found[0].name], check=True)
    target = ("tunnel", PUBLIC, 8000)
    wait_for(lambda: reached(home, "gateway", [target]) == [target], "the proxy answers again")


def is_proxy(process, home):
    try:
        environment = (process / "environ").read_bytes()
        return (
            b"zcplatform.egress_proxy" in (process / "cmdline").read_bytes()
            and str(home.folder).encode() in environment
        )
    except OSError:
        return False
