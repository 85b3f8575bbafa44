"""The proxy between web and engine: what it refuses, and on a real engine what it lets through."""

from __future__ import annotations

import asyncio
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

from tenants.runtimes.docker import DockerRuntime
from tests.backups.place import Place
from tests.zcplatform.serving import wait_for
from zcplatform.engine_proxy import EngineProxy, Refused, _check_exec, parse

HEAD = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://elsewhere/info HTTP/1.1\r\n",
        b"GET /containers/../images/json HTTP/1.1\r\n",
        b"GET //info HTTP/1.1\r\n",
        b"GET /info%2f..%2fimages HTTP/1.1\r\n",
        b"GET /info HTTP/2\r\n",
        b"GET /info\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length : 1\r\n",
        HEAD + b"no colon\r\n",
    ],
)
def test_a_head_that_two_readers_could_read_differently_is_refused(head):
    with pytest.raises(Refused):
        parse(head + b"\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b'{"Privileged": true}',
        b'{"WorkingDir": "/"}',
        b'{"User": "root"}',
        b'{"User": "0:0"}',
        b'{"User": "33"}',
        b"[]",
    ],
)
def test_an_exec_that_asks_for_more_than_the_agents_own_user_is_refused(body):
    with pytest.raises(Refused):
        _check_exec(body)


def test_an_exec_as_the_agents_own_user_is_let_through():
    _check_exec(b'{"Cmd": ["id"], "User": "200001:200001", "Privileged": false}')


class Engine:
    """A stand-in that notes what reaches it."""

    def __init__(self, path, label):
        self.path, self.label, self.seen = path, label, []

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        first = head.split(b"\r\n")[0].decode()
        self.seen.append(first)
        body = b'{"Config": {"Labels": {"zcplatform.instance": "%s"}}}' % self.label.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


@pytest.fixture
def between():
    """A function: sends raw bytes through a proxy, and gives the answer and what reached the engine."""

    def send(raw, label="mine"):
        return asyncio.run(_send(raw, label))

    return send


async def _send(raw, label):
    with tempfile.TemporaryDirectory() as folder:
        engine, listen = Path(folder) / "e", Path(folder) / "p"
        fake = Engine(engine, label)
        server = await asyncio.start_unix_server(fake.answer, path=str(engine))
        task = asyncio.create_task(EngineProxy(engine, listen, "mine").serve())
        while not listen.exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(str(listen))
        writer.write(raw)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        task.cancel()
        server.close()
        return answer.split(b"\r\n")[0].decode(), fake.seen


ID = "ab" * 32


@pytest.mark.parametrize(
    ("line", "reached"),
    [
        ("GET /_ping", True),
        ("GET /v1.41/version", True),
        (f"GET /v1.41/containers/{ID}/logs?stdout=1", True),
        (f"GET /containers/{ID}/json", True),
        (f"POST /containers/{ID}/exec", True),
        ("POST /v1.41/containers/create", False),
        (f"POST /containers/{ID}/start", False),
        (f"POST /containers/{ID}/stop", False),
        (f"DELETE /containers/{ID}", False),
        (f"PUT /containers/{ID}/archive?path=/", False),
        (f"GET /containers/{ID}/archive?path=/", False),
        (f"POST /containers/{ID}/update", False),
        (f"GET /containers/{ID}/export", False),
        ("GET /containers/zcplatform-acme/json", False),
        ("GET /images/json", False),
        ("POST /images/create?fromImage=x", False),
        ("POST /build", False),
        ("GET /volumes", False),
        ("POST /networks/create", False),
        ("GET /secrets", False),
        ("POST /swarm/init", False),
        ("GET /events", False),
    ],
)
def test_only_the_few_get_through(between, line, reached):
    status, seen = between(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert ("200" in status) is reached, status
    wanted = line.split("?")[0]
    assert any(wanted in first for first in seen) is reached


def test_a_container_of_another_installation_is_refused(between):
    status, seen = between(f"GET /containers/{ID}/logs HTTP/1.1\r\nHost: x\r\n\r\n".encode(), label="theirs")
    assert "403" in status
    assert not any("logs" in first for first in seen)


def test_what_follows_the_first_request_is_not_passed_on(between):
    two = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nPOST /containers/create HTTP/1.1\r\nHost: x\r\n\r\n"
    _, seen = between(two)
    assert seen == ["GET /_ping HTTP/1.1"]


def test_a_list_shows_only_our_own(between):
    _, seen = between(b"GET /v1.41/containers/json?filters=%7B%7D HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "zcplatform.instance%3Dmine" in seen[0]


def test_a_body_beyond_the_limit_is_refused(between):
    status, _ = between(f"POST /containers/{ID}/exec HTTP/1.1\r\nContent-Length: 99999\r\n\r\n".encode())
    assert "403" in status


@pytest.mark.docker
def test_on_a_real_engine_the_web_can_look_read_and_run_and_nothing_else(tmp_path, settings):
    from tests.tenants.runtimes.docker_bench import sweep

    runtime = DockerRuntime()
    image = runtime.ensure_image(settings.AGENT_IMAGES["demo"])
    real = docker.APIClient(base_url=settings.DOCKER_HOST)
    labels = {"zcplatform.instance": settings.INSTANCE}
    argv = ["/usr/bin/python3", "-c", "import time; print('hello', flush=True); time.sleep(300)"]
    host = real.create_host_config(network_mode="none")
    made = real.create_container(image, entrypoint=argv, user="65534:65534", labels=labels, host_config=host)["Id"]
    other = real.create_container(image, entrypoint=argv, labels={"zcplatform.instance": "another0"})["Id"]
    listen = Path(tempfile.mkdtemp(prefix="zcp-")) / "engine.sock"
    loop = asyncio.new_event_loop()
    proxy = EngineProxy(Path(settings.DOCKER_HOST.removeprefix("unix://")), listen, settings.INSTANCE)
    thread = threading.Thread(target=_run, args=(loop, proxy), daemon=True)
    thread.start()
    try:
        real.start(made)
        wait_for(lambda: b"hello" in real.logs(made), "the container speaks")
        wait_for(listen.exists, "the proxy listens")
        client = docker.APIClient(base_url=f"unix://{listen}", timeout=20)
        assert b"hello" in client.logs(made)
        assert client.inspect_container(made)["State"]["Running"]
        assert {item["Id"] for item in client.containers(all=True)} == {made}
        begun = client.exec_create(made, ["/usr/bin/python3", "-c", "print(6 * 7)"])["Id"]
        assert client.exec_start(begun).strip() == b"42"
        assert client.exec_inspect(begun)["ExitCode"] == 0
        for act in (
            lambda: client.stop(made),
            lambda: client.remove_container(made, force=True),
            lambda: client.create_container(image, ["x"]),
            lambda: client.exec_create(made, ["id"], privileged=True),
            lambda: client.exec_create(made, ["id"], user="root"),
            lambda: client.inspect_container(other),
            lambda: client.images(),
            lambda: client.get_archive(made, "/etc"),
        ):
            with pytest.raises(APIError, match="403"):
                act()
        assert real.inspect_container(made)["State"]["Running"]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        real.remove_container(other, force=True)
        real.remove_container(made, force=True)
        sweep(runtime)


def _run(loop, proxy):
    asyncio.set_event_loop(loop)
    loop.create_task(proxy.serve())
    loop.run_forever()


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
