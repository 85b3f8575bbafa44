"""The proxy between web and engine, in front of the real engine: what reaches it, and what it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from tenants.runtimes.base import LABEL_HELPER, LABEL_INSTANCE
from tenants.runtimes.docker import DockerRuntime
from tests.backups.place import Place
from tests.zcplatform.serving import wait_for
from zcplatform.engine_proxy import CONNECTIONS_MAX, EngineProxy

OWN = "65534:65534"
SLEEP = ["/usr/bin/python3", "-c", "import time; print('hello', flush=True); time.sleep(300)"]
EVIL = "zcplatform-test-evil"


class Tap:
    """In front of the real engine: every byte goes through both ways, and what was asked is kept."""

    def __init__(self, engine: Path, path: Path) -> None:
        self.engine, self.path, self.connections = engine, path, []

    @property
    def asked(self) -> bytes:
        return b"".join(bytes(one) for one in self.connections)

    async def serve(self) -> None:
        async with await asyncio.start_unix_server(self._connected, path=str(self.path)) as server:
            await server.serve_forever()

    async def _connected(self, reader, writer):
        up_reader, up_writer = await asyncio.open_unix_connection(str(self.engine))
        self.connections.append(bytearray())
        there = asyncio.create_task(_through(reader, up_writer, self.connections[-1]))
        await _through(up_reader, writer, bytearray())
        there.cancel()
        writer.close()
        up_writer.close()


async def _through(source, target, kept):
    with contextlib.suppress(OSError):
        while chunk := await source.read(65_536):
            kept += chunk
            target.write(chunk)
            await target.drain()
        target.write_eof()


class Bench:
    """The proxy on a thread of its own, a container of ours, one of others, and one of our helpers."""

    def __init__(self, settings, folder: Path) -> None:
        self.real = docker.APIClient(base_url=settings.DOCKER_HOST)
        self.image = DockerRuntime().ensure_image(settings.AGENT_IMAGES["demo"])
        mine = {LABEL_INSTANCE: settings.INSTANCE}
        host = self.real.create_host_config(network_mode="none")

        def run(**of):
            made = self.real.create_container(self.image, entrypoint=SLEEP, host_config=host, **of)["Id"]
            self.real.start(made)
            return made

        self.made = [
            run(user=OWN, labels=mine),
            run(labels={LABEL_INSTANCE: "another0"}),
            run(labels={**mine, LABEL_HELPER: "test"}),
        ]
        self.ours, self.theirs, self.helper = self.made
        self.listen = folder / "p"
        self.tap = Tap(Path(settings.DOCKER_HOST.removeprefix("unix://")), folder / "e")
        self.proxy = EngineProxy(self.tap.path, self.listen, settings.INSTANCE)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.listen.exists() and self.tap.path.exists(), "the proxy listens")

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.tasks = [self.loop.create_task(one.serve()) for one in (self.tap, self.proxy)]
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))

    def close(self):
        for task in self.tasks:
            self.loop.call_soon_threadsafe(task.cancel)
        self.thread.join(10)
        for name in [*self.made, EVIL]:
            try:
                self.real.remove_container(name, force=True)
            except APIError as error:
                if error.status_code != 404:
                    raise

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(self.listen))
        return client

    def send(self, *pieces: bytes) -> bytes:
        """Send raw bytes and read until the proxy closes."""
        self.tap.connections.clear()
        with self.connect() as client:
            for piece in pieces:
                client.sendall(piece)
            return _rest(client)

    def exec(self, container: str, **of) -> str:
        return str(self.real.exec_create(container, of.pop("cmd", SLEEP), **of)["Id"])

    def request(self, line: str, body: dict | bytes = b"") -> bytes:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content

    @property
    def create(self) -> bytes:
        """What an attacker is after: a container that is root on the host."""
        asked = {
            "Image": self.image,
            "Entrypoint": ["/bin/true"],
            "HostConfig": {"Privileged": True, "Binds": ["/:/x"]},
        }
        return self.request(f"POST /containers/create?name={EVIL}", asked)

    def evil_exists(self) -> bool:
        return bool(self.real.containers(all=True, filters={"name": EVIL}))


def _rest(client) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture(scope="module")
def bench(django_db_setup):
    from django.conf import settings

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(settings, Path(folder))
        try:
            yield bench
        finally:
            bench.close()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("line", "reached"),
    [
        ("GET /_ping", True),
        ("HEAD /_ping", True),
        ("GET /v1.41/version", True),
        ("GET /info", True),
        ("GET /v1.41/containers/{id}/logs?stdout=1", True),
        ("GET /containers/{id}/json", True),
        ("GET /containers/{id}/stats?stream=False&one-shot=True", True),
        ("POST /containers/{id}/exec", True),
        ("POST /v1.41/containers/create", False),
        ("POST /containers/{id}/start", False),
        ("POST /containers/{id}/stop", False),
        ("POST /containers/{id}/attach?stream=1", False),
        ("DELETE /containers/{id}", False),
        ("PUT /containers/{id}/archive?path=/", False),
        ("GET /containers/{id}/archive?path=/", False),
        ("POST /containers/{id}/update", False),
        ("GET /containers/{id}/export", False),
        ("GET /containers/zcplatform-acme/json", False),
        ("GET /images/json", False),
        ("POST /images/create?fromImage=x", False),
        ("POST /build", False),
        ("POST /session", False),
        ("POST /grpc", False),
        ("GET /volumes", False),
        ("POST /networks/create", False),
        ("GET /secrets", False),
        ("POST /swarm/init", False),
        ("GET /events", False),
    ],
)
def test_only_the_few_get_through(bench, line, reached):
    line = line.format(id=bench.ours)
    answer = bench.send(bench.request(line))
    assert (_status(answer) != 403) is reached, answer
    assert (line.split("?")[0].encode() in bench.tap.asked) is reached


@pytest.mark.docker
def test_a_container_of_another_installation_is_refused(bench):
    for verb in ("logs?stdout=1", "json", "top", "stats?stream=0"):
        answer = bench.send(bench.request(f"GET /containers/{bench.theirs}/{verb}"))
        assert _status(answer) == 403
        assert f"/{verb.split('?')[0]}?".encode() not in bench.tap.asked
    begun = bench.exec(bench.theirs)
    assert _status(bench.send(bench.request(f"POST /exec/{begun}/start", {}))) == 403
    assert _status(bench.send(bench.request(f"GET /exec/{begun}/json"))) == 403


@pytest.mark.docker
def test_a_helper_of_ours_which_may_be_root_takes_no_exec(bench):
    answer = bench.send(bench.request(f"POST /containers/{bench.helper}/exec", {"Cmd": ["/bin/true"]}))
    assert _status(answer) == 403
    begun = bench.exec(bench.helper)
    assert _status(bench.send(bench.request(f"POST /exec/{begun}/start", {}))) == 403


@pytest.mark.docker
@pytest.mark.parametrize("more", [{"privileged": True}, {"user": "0:0"}])
def test_an_exec_that_somebody_else_made_for_root_is_not_started(bench, more):
    begun = bench.exec(bench.ours, **more)
    assert _status(bench.send(bench.request(f"POST /exec/{begun}/start", {}))) == 403
    assert not bench.real.exec_inspect(begun)["Running"]


@pytest.mark.docker
@pytest.mark.parametrize(
    "body",
    [{"User": "0:0"}, {"User": "root"}, {"User": "65534"}, {"user": OWN}, {"privileged": True}, {"Detach": True}],
)
def test_an_exec_for_more_than_the_agents_own_user_does_not_reach_the_engine(bench, body):
    answer = bench.send(bench.request(f"POST /containers/{bench.ours}/exec", {"Cmd": ["/bin/true"], **body}))
    assert _status(answer) == 403
    assert b"/exec " not in bench.tap.asked


@pytest.mark.docker
def test_the_engine_is_told_the_user_in_our_words(bench):
    answer = bench.send(bench.request(f"POST /containers/{bench.ours[:12]}/exec", {"Cmd": ["/bin/true"], "Tty": None}))
    assert _status(answer) == 201
    made = bench.real.exec_inspect(json.loads(answer.partition(b"\r\n\r\n")[2])["Id"])
    assert (made["ProcessConfig"]["user"], made["ProcessConfig"]["privileged"]) == (OWN, False)
    assert f"POST /containers/{bench.ours}/exec ".encode() in bench.tap.asked


def _starts(bench):
    """Ways to begin an exec after which the engine goes on reading requests, and one that is no exec at all."""
    running = bench.exec(bench.ours)
    bench.real.exec_start(running, detach=True)
    fresh = bench.exec(bench.ours)
    return {
        "detached": bench.request(f"POST /exec/{fresh}/start", {"Detach": True}),
        "detached in small letters": bench.request(f"POST /exec/{fresh}/start", {"detach": True}),
        "already running": bench.request(f"POST /exec/{running}/start", {"Detach": False, "Tty": False}),
        "unknown": bench.request(f"POST /exec/{'0' * 64}/start", {}),
        "version too new": bench.request(f"POST /v1.99/exec/{fresh}/start", {}),
        "looking": bench.request("GET /_ping"),
    }


@pytest.mark.docker
@pytest.mark.parametrize(
    "way", ["detached", "detached in small letters", "already running", "unknown", "version too new", "looking"]
)
def test_nothing_follows_a_request_that_the_engine_did_not_answer_with_101(bench, way):
    first = _starts(bench)[way]
    together = bench.send(first + bench.create)
    assert b"/containers/create" not in bench.tap.asked
    with bench.connect() as client:  # the same with a pause: after the first answer has come
        client.sendall(first)
        assert client.recv(65_536)
        with contextlib.suppress(OSError):
            client.sendall(bench.create)
        _rest(client)
    assert together.count(b"HTTP/1.1 ") == 1
    assert b"/containers/create" not in bench.tap.asked
    assert not bench.evil_exists()


@pytest.mark.docker
def test_after_a_101_the_connection_is_the_commands_own(bench):
    cmd = ["/usr/bin/python3", "-c", "import sys; sys.stdout.write(sys.stdin.read().upper())"]
    begun = bench.exec(bench.ours, cmd=cmd, stdin=True)
    bench.tap.connections.clear()
    with bench.connect() as client:
        client.sendall(bench.request(f"POST /exec/{begun}/start", {"Tty": False}) + bench.create)
        client.shutdown(socket.SHUT_WR)
        answer = _rest(client)
    assert _status(answer) == 101
    assert b"POST /CONTAINERS/CREATE" in answer
    assert not bench.evil_exists()


@pytest.mark.docker
def test_a_client_that_leaves_ends_what_the_engine_follows_for_it(bench):
    with bench.connect() as client:
        client.sendall(bench.request(f"GET /containers/{bench.ours}/logs?stdout=1&follow=1"))
        seen = b""
        while b"hello" not in seen:
            seen += client.recv(65_536)
        assert bench.proxy._open == 1
    wait_for(lambda: bench.proxy._open == 0, "the engine has closed")


@pytest.mark.docker
@pytest.mark.parametrize("way", ["follows a silent log", "runs what neither reads nor prints"])
def test_a_client_that_leaves_an_answer_unread_is_not_held_for_ever(bench, way):
    request = bench.request(f"GET /containers/{bench.ours}/logs?stdout=1&follow=1&tail=0")
    if way.startswith("runs"):
        silent = bench.exec(bench.ours, cmd=["/usr/bin/python3", "-c", "import time; time.sleep(100)"], stdin=True)
        request = bench.request(f"POST /exec/{silent}/start", {"Tty": False})
    with bench.connect() as client:
        client.sendall(request)
        assert client.recv(1) == b"H"
    wait_for(lambda: bench.proxy._open == 0, "its place is free")


@pytest.mark.docker
def test_more_connections_than_it_holds_are_turned_away(bench):
    held = [bench.connect() for _ in range(CONNECTIONS_MAX)]
    wait_for(lambda: bench.proxy._open == CONNECTIONS_MAX, "all are held")
    with bench.connect() as one_more:
        told = _status(_rest(one_more))
    for client in held:
        client.close()
    assert told == 503
    wait_for(lambda: bench.proxy._open == 0, "all have left")
    assert _status(bench.send(b"GET /_ping HTTP/1.1\r\n\r\n")) == 200


@pytest.mark.docker
def test_the_web_can_look_read_and_run_and_nothing_else(bench):
    client = docker.APIClient(base_url=f"unix://{bench.listen}", timeout=20)
    wait_for(lambda: b"hello" in client.logs(bench.ours), "the container speaks")
    assert client.inspect_container(bench.ours)["State"]["Running"]
    assert client.stats(bench.ours, stream=False, one_shot=True)["id"] == bench.ours
    assert {item["Id"] for item in client.containers(all=True)} == {bench.ours, bench.helper}
    begun = client.exec_create(bench.ours, ["/usr/bin/python3", "-c", "print(6 * 7)"], user=OWN, environment=["A=b"])
    assert client.exec_start(begun["Id"]).strip() == b"42"
    assert client.exec_inspect(begun["Id"])["ExitCode"] == 0
    for act in (
        lambda: client.stop(bench.ours),
        lambda: client.remove_container(bench.ours, force=True),
        lambda: client.create_container(bench.image, ["x"]),
        lambda: client.exec_create(bench.ours, ["id"], privileged=True),
        lambda: client.exec_create(bench.ours, ["id"], user="root"),
        lambda: client.exec_create(bench.ours, ["id"], workdir="/"),
        lambda: client.exec_start(client.exec_create(bench.ours, ["id"])["Id"], detach=True),
        lambda: client.inspect_container(bench.theirs),
        lambda: client.images(),
        lambda: client.get_archive(bench.ours, "/etc"),
    ):
        with pytest.raises(APIError, match="403"):
            act()
    assert bench.real.inspect_container(bench.ours)["State"]["Running"]


def test_the_command_serves_a_socket_for_its_group(tmp_path):
    place = Place(tmp_path / "home").bootstrap()
    listen = Path(tempfile.mkdtemp(prefix="zcp-")) / "engine.sock"
    argv = [sys.executable, "-m", "zcplatform", "engine_proxy", "--listen", str(listen)]
    child = subprocess.Popen(argv, env=place.env)
    try:
        wait_for(lambda: listen.exists() and listen.stat().st_mode & 0o777 == 0o660, "the socket is there")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(listen))
            client.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 403 ")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()


def test_the_command_refuses_an_engine_that_is_no_socket(tmp_path):
    place = Place(tmp_path / "home", DOCKER_HOST="tcp://127.0.0.1:1").bootstrap()
    assert place.run("engine_proxy", "--listen", str(tmp_path / "x")).returncode == 2
