"""The proxy in this process: networks that come and go, names that lead inside, changes that cut, limits."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Interface

import pytest

from tenants.egress import bridges, counts, dial, policy, proxy
from tenants.egress.bridges import Bridge
from tenants.egress.hosts import parse
from tenants.egress.policy import Policy
from tenants.states import Egress
from tests.slot import PROCESSES

BRIDGE = Bridge("zctesta0", Egress.ALLOWLIST, 0, IPv4Interface("127.0.0.1/24"))


class World:
    """Which slot may reach what, where names lead, and what was audited."""

    def __init__(self, monkeypatch, settings):
        self.hosts = {-1: None}
        self.names: dict[str, list[str]] = {}
        self.audited = []
        self.bridges = [BRIDGE]
        self.allowed = ["allowed.example:80", "*.wild.example:80"]
        settings.EGRESS_PROXY_PORT = PROCESSES[0]
        monkeypatch.setattr(policy, "at", self.at)
        monkeypatch.setattr(Bridge, "slot_of", lambda _self, _text: 7)
        monkeypatch.setattr(counts, "audit_refusal", lambda *row: self.audited.append(row))
        monkeypatch.setattr(dial, "is_public", lambda address: address == "127.0.0.1")
        monkeypatch.setattr(dial, "is_here", lambda _address: False)
        self.monkeypatch = monkeypatch

    def at(self, mode, slot):
        assert (mode, slot) == (Egress.ALLOWLIST, 7)
        return None if self.allowed is None else Policy("id-7", "seven", tuple(map(parse_any, self.allowed)))

    @asynccontextmanager
    async def running(self):
        made = proxy.Proxy(lambda: list(self.bridges))
        self.resolve()
        await made.follow()
        try:
            yield made
        finally:
            self.bridges = []
            await made.follow()

    def resolve(self):
        loop = asyncio.get_running_loop()

        async def getaddrinfo(host, port, **_):
            if host not in self.names:
                raise OSError("no such name")
            return [(2, 1, 6, "", (address, port)) for address in self.names[host]]

        self.monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


def parse_any(entry):
    return parse(entry)


@pytest.fixture
def world(monkeypatch, settings):
    return World(monkeypatch, settings)


@asynccontextmanager
async def upstream(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"):
    """A host that notes what it was sent; gives its port."""
    got = []

    async def serve(reader, writer):
        got.append(await reader.read(1_000))
        writer.write(answer)
        await writer.drain()
        if await reader.read(1_000) == b"":
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()


async def ask(head, then=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", PROCESSES[0])
    writer.write(head)
    first = await reader.readline()
    if then and b" 200 " in first:
        await reader.readline()
        writer.write(then)
    with suppress(OSError):  # refused and closed already
        writer.write_eof()
        first += await reader.read()
    writer.close()
    return first


def connect(host, port):
    return f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode()


def run(act):
    asyncio.run(asyncio.wait_for(act(), 60))


def test_a_tunnel_and_a_plain_request_reach_a_listed_host(world):
    async def act():
        async with upstream() as (port, got), world.running() as made:
            world.allowed, world.names["allowed.example"] = [f"allowed.example:{port}"], ["127.0.0.1"]
            assert (await ask(connect("allowed.example", port), b"hello")).endswith(b"ok")
            plain = f"GET http://allowed.example:{port}/x HTTP/1.1\r\nHost: other\r\n\r\n".encode()
            assert (await ask(plain)).endswith(b"ok")
            assert got[0] == b"hello"
            assert got[1].startswith(b"GET /x HTTP/1.1\r\nHost: allowed.example:")
            tally = made.ledger.of("id-7")
            assert (tally.allowed, tally.refused, tally.sent) == (2, 0, 5)
            assert tally.received > 0

    run(act)


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["169.254.169.254"], ["::1"], ["127.0.0.2", "10.0.0.1"], ["::ffff:127.0.0.1"]]
)
def test_a_listed_name_that_leads_inside_is_refused(world, addresses):
    """H-group: DNS rebinding. The address that was judged is the one that is connected to."""

    async def act():
        async with world.running():
            world.names["allowed.example"] = addresses
            assert b" 403 " in await ask(connect("allowed.example", 80))
            assert world.audited[0][3] == "leads to no public address"

    run(act)


def test_of_several_addresses_only_the_public_ones_are_tried(world, monkeypatch):
    tried = []

    async def open_connection(address, port):
        tried.append(address)
        raise ConnectionRefusedError

    async def act():
        world.names["allowed.example"] = ["10.0.0.1", "127.0.0.1", "10.0.0.2"]
        world.resolve()
        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        with pytest.raises(OSError):
            await dial.dial("allowed.example", 80, internal=frozenset())

    run(act)
    assert tried == ["127.0.0.1"]


def test_this_hosts_own_public_address_is_inside_too(world, monkeypatch):
    async def act():
        monkeypatch.setattr(dial, "is_here", lambda address: address == "127.0.0.1")
        async with world.running():
            world.names["allowed.example"] = ["127.0.0.1"]
            assert b" 403 " in await ask(connect("allowed.example", 80))

    run(act)


def test_what_the_operator_calls_internal_may_be_inside(world, monkeypatch, settings):
    monkeypatch.setattr(dial, "is_public", lambda _address: False)

    async def act():
        async with upstream() as (port, _):
            settings.EGRESS_INTERNAL = frozenset({("model.lan", port)})
            world.names["model.lan"] = world.names["other.lan"] = ["127.0.0.1"]
            world.allowed = [f"model.lan:{port}", f"other.lan:{port}"]
            async with world.running():
                assert b" 200 " in await ask(connect("model.lan", port), b"x")
                assert b" 403 " in await ask(connect("other.lan", port))

    run(act)


def test_an_unlisted_host_is_refused_without_asking_for_its_name(world):
    """Otherwise the question itself would carry data out."""

    async def act():
        async with world.running() as made:
            monkey = []
            world.monkeypatch.setattr(proxy, "dial", lambda *a, **k: monkey.append(a))
            for host in ("secret.exfil.example", "wild.example", "allowed.example.evil.example"):
                assert b" 403 " in await ask(connect(host, 80))
            assert monkey == []
            assert made.ledger.of("id-7").refused == 3
            assert [row[1] for row in world.audited] == [
                "secret.exfil.example",
                "wild.example",
                "allowed.example.evil.example",
            ]

    run(act)


def test_refusals_are_audited_once_each_and_so_many_an_hour(world):
    async def act():
        async with world.running() as made:
            for number in range(counts.REFUSALS_PER_WINDOW + 10):
                for _ in range(2):
                    await ask(connect(f"h{number}.example", 80))
            assert len(world.audited) == counts.REFUSALS_PER_WINDOW
            assert made.ledger.of("id-7").refused == 2 * (counts.REFUSALS_PER_WINDOW + 10)

    run(act)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"A" * 20_000])
def test_what_is_no_request_is_answered_as_such(world, head):
    async def act():
        async with world.running():
            assert b" 400 " in await ask(head)

    run(act)


def test_nobody_and_a_failing_database_get_nothing(world):
    async def act():
        async with world.running():
            world.allowed = None
            assert b" 403 " in await ask(connect("allowed.example", 80))
            world.monkeypatch.setattr(policy, "at", lambda *_: 1 / 0)
            assert b" 503 " in await ask(connect("allowed.example", 80))

    run(act)


def test_a_host_that_does_not_answer_is_a_502(world):
    async def act():
        async with world.running() as made:
            assert b" 502 " in await ask(connect("allowed.example", 80))  # there is no such name
            assert made.ledger.of("id-7").failed == 1

    run(act)


def test_a_tunnel_is_cut_when_its_host_is_taken_off_the_list(world):
    async def act():
        async with upstream(b"") as (port, _), world.running() as made:
            world.allowed, world.names["allowed.example"] = [f"allowed.example:{port}"], ["127.0.0.1"]
            reader, writer = await asyncio.open_connection("127.0.0.1", PROCESSES[0])
            writer.write(connect("allowed.example", port))
            assert b" 200 " in await reader.readline()
            await made.recheck()
            assert len(made.tunnels) == 1, "still allowed"
            world.allowed = []
            await made.recheck()
            await reader.readline()
            assert await reader.read() == b""
            assert made.tunnels == {}
            writer.close()

    run(act)


def test_one_tenant_has_so_many_connections_and_no_more(world, monkeypatch):
    monkeypatch.setattr(proxy, "CONNECTIONS_PER_TENANT", 2)

    async def act():
        async with world.running() as made:
            held = [await asyncio.open_connection("127.0.0.1", PROCESSES[0]) for _ in range(2)]
            while sum(made.busy.values()) < 2:
                await asyncio.sleep(0.01)
            assert b" 429 " in await ask(connect("allowed.example", 80))
            for _, writer in held:
                writer.close()
            while made.busy:
                await asyncio.sleep(0.01)
            assert b" 502 " in await ask(connect("allowed.example", 80))

    run(act)


def test_it_follows_the_networks_and_listens_on_none_of_the_mode_open(world):
    async def act():
        async with world.running() as made:
            assert list(made.servers) == [BRIDGE]
            world.bridges = [Bridge("zctesto0", Egress.OPEN, 0, IPv4Interface("127.0.0.1/24"))]
            await made.follow()
            assert made.servers == {}
            with pytest.raises(ConnectionRefusedError):
                await ask(connect("allowed.example", 80))

    run(act)


def test_the_counters_are_left_for_others_to_read(world, settings, tmp_path):
    settings.HOME = tmp_path
    assert counts.read() == {}
    (tmp_path / "run").mkdir()
    ledger = counts.Ledger()
    ledger.of("id-7").allowed = 3
    ledger.write()
    assert counts.read()["id-7"] == {"allowed": 3, "refused": 0, "failed": 0, "sent": 0, "received": 0}
    assert json.loads(counts.stats_file().read_text()) == counts.read()


def test_a_tenants_slot_follows_from_its_address(settings):
    settings.TENANTS_PER_NETWORK = 500
    bridge = Bridge("zcx", Egress.GATEWAY, 2, IPv4Interface("10.216.8.1/22"))
    assert bridge.slot_of("10.216.8.2") == 1_000
    assert bridge.slot_of("10.216.9.245") == 1_499
    for nobody in ("10.216.8.0", "10.216.8.1", "10.216.9.246", "10.216.12.2", "127.0.0.1"):
        assert bridge.slot_of(nobody) is None


def test_a_bridges_name_fits_an_interface(settings):
    settings.INSTANCE = "a" * 32
    names = {bridges.bridge_name(mode, number) for mode in Egress for number in (0, 1, 12_345)}
    assert len(names) == 9
    assert max(map(len, names)) <= 15
