"""One health check against a real server: what counts as healthy, and how much is read of an answer."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tenants.probe import BODY_CAP, probe


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_args):
        """Silence."""


@pytest.fixture
def agent(tenant):
    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        tenant.port, server.status = server.server_port, 200
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def padded(length):
    """A healthy answer of this many bytes."""
    text = json.dumps({"status": "ok", "pad": ""})
    return text.replace('"pad": "', '"pad": "' + "x" * (length - len(text))).encode()


def test_a_healthy_answer_counts_up_to_the_cap_and_not_beyond(tenant, agent):
    agent.body = padded(BODY_CAP)
    assert len(agent.body) == BODY_CAP
    assert probe(tenant)
    agent.body = padded(BODY_CAP + 1)
    assert not probe(tenant)


@pytest.mark.parametrize(("status", "body"), [(503, b'{"status": "ok"}'), (302, b""), (404, b"{}")])
def test_another_answer_is_not_healthy(tenant, agent, status, body):
    agent.status, agent.body = status, body
    assert not probe(tenant)


def test_nobody_there_is_not_healthy(tenant):
    tenant.port = 9
    assert not probe(tenant)
