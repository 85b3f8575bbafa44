"""The one door: time limits that hold, and every failure in the platform's own words."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenants.runtimes import docker_engine
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_engine import Engine, Refused, engine_at, reason_of
from zcplatform.lib.errors import DependencyDown, DependencyTimeout

VERSION = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"ApiVersion":"1.41"}'


@contextmanager
def engine_that(behave):
    """An engine that answers ``/version`` and gives every later connection and request to ``behave``."""
    with tempfile.TemporaryDirectory(prefix="zce-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "engine.sock")
        listener.bind(str(path))
        listener.listen()
        kept = []

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection):
            while request := connection.recv(65_536):
                if b"GET /version" in request:
                    connection.sendall(VERSION)
                elif behave(connection) == "drop":
                    connection.shutdown(socket.SHUT_RDWR)
                    break

        threading.Thread(target=accept, daemon=True).start()
        yield Engine(f"unix://{path}")
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.shutdown(socket.SHUT_RDWR)


def answer(status: str, body: bytes):
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def test_r4_an_absent_engine_is_down_and_nothing_was_applied():
    with pytest.raises(DependencyDown) as failed:
        Engine("unix:///nonexistent/engine.sock").call("info")
    assert type(failed.value) is DependencyDown
    assert failed.value.type == "waiting_for_engine"
    assert not failed.value.permanent


def test_r4_an_engine_that_went_away_is_down():
    with engine_that(answer("200 OK", b"{}")) as engine:
        assert engine.call("info") == {}
    with pytest.raises(DependencyDown) as failed:
        engine.call("networks")
    assert type(failed.value) is DependencyDown


def test_r5_an_engine_that_hangs_is_a_timeout_in_time():
    with engine_that(lambda connection: None) as engine, pytest.raises(DependencyTimeout) as failed:
        engine.call("info", limit_s=0.2)
    assert failed.value.type == "waiting_for_engine"


def test_r5_an_engine_that_hangs_at_the_first_question_is_down(monkeypatch):
    monkeypatch.setattr(docker_engine, "READ_S", 0.2)
    with tempfile.TemporaryDirectory(prefix="zce-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/engine.sock")
        listener.listen()
        engine = Engine(f"unix://{folder}/engine.sock")
        with pytest.raises(DependencyDown):
            engine.call("info")


@pytest.mark.parametrize("verb", ["pull", "import_image", "stop"])
def test_r5_the_calls_that_the_sdk_makes_without_limit_have_one(verb):
    arguments = {"pull": ("a.b/c",), "import_image": (b"data",), "stop": ("a", 0)}[verb]
    with engine_that(lambda connection: None) as engine, pytest.raises(DependencyTimeout):
        engine.call(verb, *arguments, limit_s=0.2)


def test_a_reply_that_is_dropped_may_have_been_applied():
    with engine_that(lambda connection: "drop") as engine, pytest.raises(DependencyTimeout):
        engine.call("start", "a")


def test_garbage_is_not_taken_for_an_answer():
    def babble(connection):
        connection.sendall(b"what?\r\n\r\n")

    with engine_that(babble) as engine, pytest.raises(DependencyTimeout):
        engine.call("start", "a", limit_s=0.5)


def test_a_full_disk_waits_instead_of_failing():
    body = b'{"message":"write /var/lib/x: no space left on device"}'
    with engine_that(answer("500 Internal Server Error", body)) as engine, pytest.raises(DependencyDown) as failed:
        engine.call("start", "a")
    assert failed.value.type == "storage_full"


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (404, "No such image: sha256:ab", "image_missing"),
        (409, 'Conflict. The container name "/a" is already in use by container "b".', "name_conflict"),
        (500, "driver failed programming external connectivity on endpoint a: Bind for x failed: port is already "
         "allocated", "port_conflict"),
        (500, "Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use", "port_conflict"),
        (400, "invalid mount config for type: bind source path does not exist: /a", "folder_failed"),
        (404, "network zcplatform-internal-0 not found", "network_failed"),
        (403, "Pool overlaps with other one on this address space", "network_failed"),
        (500, "adding interface veth1 to bridge br-1 failed: exchange full", "network_failed"),
        (400, "OCI runtime create failed: exec: \"/nothing\": stat /nothing: no such file", "bad_config"),
        (400, "invalid reference format", "bad_config"),
        (500, "something new", "internal_error"),
    ],
)  # fmt: skip
def test_what_the_engine_says_is_given_a_reason(status, text, reason):
    assert reason_of(text, status) == reason
    line = b'{"message":%s}' % (b'"' + text.replace('"', '\\"').encode() + b'"')
    with engine_that(answer(f"{status} No", line)) as engine, pytest.raises(Refused) as failed:
        engine.call("start", "a")
    assert (failed.value.type, failed.value.http_status) == (reason, status)


@pytest.mark.docker
def test_a_forked_child_makes_its_own_connection():
    engine = DockerRuntime().engine
    mine = engine._client()
    child = os.fork()
    if child == 0:
        try:
            engine.call("version")
            os._exit(0 if engine._client() is not mine else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.docker
def test_threads_do_not_share_a_connection_and_processes_share_the_engine():
    engine = DockerRuntime().engine
    clients = []
    threads = [threading.Thread(target=lambda: clients.append(engine._client())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, clients))) == 3
    assert engine is engine_at(engine.host)
