"""The health check against agents that mean ill."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest

from tenants import probe
from tenants.probe import BODY_CAP


@pytest.fixture
def agent(monkeypatch):
    """``agent(send)``: a tenant whose agent answers each connection by ``send(connection)``."""
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.5)
    listeners = []

    def listening(send):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve():
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        send(connection)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        node = SimpleNamespace(address="127.0.0.1")
        return SimpleNamespace(agent_kind="demo", node=node, port=listener.getsockname()[1])

    yield listening
    for listener in listeners:
        listener.close()


def drip(connection, data):
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


def test_a_healthy_answer_counts(agent):
    body = b'{"status": "ok"}'
    assert probe.probe(agent(lambda c: c.sendall(HEAD + str(len(body)).encode() + b"\r\n\r\n" + body)))


@pytest.mark.parametrize("what", ["head", "body"])
def test_m9_an_answer_that_drips_is_given_up_as_a_whole(agent, what):
    """Each byte comes in time, the answer never does: a limit per read alone would wait for hours."""
    head = HEAD + b"60000\r\n\r\n"
    slow = (lambda c: drip(c, head)) if what == "head" else (lambda c: (c.sendall(head), drip(c, b"x" * 60)))
    done = threading.Event()
    threading.Thread(target=lambda: (probe.probe(agent(slow)), done.set()), daemon=True).start()
    assert done.wait(5), "still waiting for the rest of it"


def test_an_answer_that_is_too_large_is_not_healthy(agent):
    body = b'{"status": "ok"}' + b" " * BODY_CAP
    assert not probe.probe(agent(lambda c: c.sendall(HEAD + str(len(body)).encode() + b"\r\n\r\n" + body)))


def test_nobody_there_is_not_healthy():
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    node = SimpleNamespace(address="127.0.0.1")
    assert not probe.probe(SimpleNamespace(agent_kind="demo", node=node, port=port))
