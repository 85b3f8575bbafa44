"""An answer that was given before the body was read is the last one on its connection: what follows it is the rest
of that body and nobody's request. Real Caddy; behind it one server that reads bodies, and one that does not."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest

from tenants.routing.caddy import CaddyRouter
from tests.caddy import free_port, make_route
from tests.serving import answer, read_body, serving

pytestmark = pytest.mark.caddy
PATHS = ("/webhook", "/webhook/*", "/ws")
MB = 1_048_576
OWN = [  # whose the address is, the path, and what a body may have there
    ("localhost", "/api/tenants", MB),
    ("acme.localhost", "/v1/chat/completions", MB),
    ("acme.localhost", "/webhook", 10 * MB),
]


async def reader(scope, receive, send):
    """Says which path it was asked for and whose cookie came along, once it has the body."""
    await read_body(receive)
    cookie = dict(scope["headers"]).get(b"x-visitor", b"")
    await answer(send, 200, scope["path"].encode() + b" " + cookie)


async def refuser(scope, receive, send):
    await answer(send, int(scope["path"].rpartition("/")[2]), b"no")


@pytest.fixture(autouse=True)
def a_megabyte_for_chats(settings):
    settings.DOOR_BODY_MAX = MB


@pytest.fixture
def reading(caddy, settings):
    with serving(reader) as settings.PORT, serving(reader) as agent:
        routes = [make_route("acme", agent, PATHS), make_route("dead", free_port(), PATHS)]
        CaddyRouter().sync(lambda: routes)
        yield caddy


def heard(port, sent):
    """The statuses of everything that comes back, and the rest of it; the server has closed when this returns."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        sender = threading.Thread(target=lambda: _send(line, sent))
        sender.start()
        told = b""
        with suppress(ConnectionError):  # what we sent after the end is what resets it
            while piece := line.recv(65_536):
                told += piece
        sender.join()
    return [int(part[:3]) for part in told.split(b"HTTP/1.1 ")[1:]], told


def _send(line, sent):
    with suppress(OSError):
        line.sendall(sent)


def post(host, path, body, declared=None):
    length = f"Content-Length: {declared or len(body)}"
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n".encode() + body


def get(host, path):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize("inside", [True, False], ids=["the request is part of the body", "the request follows it"])
@pytest.mark.parametrize(("host", "path", "limit"), OWN)
def test_a_body_one_byte_too_large_has_one_answer_and_ends_the_connection(reading, host, path, limit, inside):
    hidden, rest = get(host, "/webhook/hidden"), b"y" * 300_000
    body = b"x" * (limit + 1)
    sent = post(host, path, body, len(body + hidden + rest) if inside else None) + hidden + rest
    statuses, told = heard(reading.port, sent)
    assert statuses == [413]
    assert b"Connection: close\r\n" in told


@pytest.mark.parametrize(("host", "path", "limit"), OWN)
def test_the_same_of_a_body_of_unknown_length(reading, host, path, limit):
    body = b"%x\r\n" % (limit + 1) + b"x" * (limit + 1) + b"\r\n"
    start = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    statuses, _ = heard(reading.port, start + body + get(host, "/webhook/hidden") + b"y" * 300_000)
    assert statuses == [413]


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("unknown.test", "/", 404),
        ("acme.localhost", "/metrics", 404),
        ("acme.localhost", "/a/../webhook", 404),
        ("dead.localhost", "/webhook", 502),
    ],
)
@pytest.mark.parametrize("size", [1_000, 300_000])
def test_caddys_own_errors_end_the_connection_of_a_request_with_a_body(reading, host, path, status, size):
    statuses, told = heard(reading.port, post(host, path, b"x" * size) + get(host, path))
    assert statuses == [status]
    assert b"Connection: close\r\n" in told


@pytest.mark.parametrize("status", [400, 401, 413, 429, 500, 503])
@pytest.mark.parametrize("host", ["localhost", "acme.localhost"])
def test_a_refusal_from_behind_caddy_comes_at_once_and_ends_the_connection(caddy, settings, host, status):
    with serving(refuser) as settings.PORT, serving(refuser) as agent:
        CaddyRouter().sync(lambda: [make_route("acme", agent, PATHS)])
        statuses, told = heard(caddy.port, post(host, f"/webhook/{status}", b"{", 9_000))
    assert statuses == [status]
    assert b"Connection: close\r\n" in told


@contextmanager
def hasty(status):
    """An agent that answers as soon as it has the headers, and never reads a body. Its port, and what it was asked."""
    asked = []

    class Hasty(socketserver.StreamRequestHandler):
        def handle(self):
            while first := self.rfile.readline():
                asked.append(first.decode().strip())
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
                if first.startswith(b"POST"):
                    threading.Event().wait(0.5)
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hasty) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


@pytest.mark.parametrize("length", [300_000, 10 * MB - 1, 10 * MB + 300_000], ids=["long", "largest", "too large"])
@pytest.mark.parametrize("status", [200, 204, 304, 302])
def test_an_agent_that_answers_without_reading_makes_no_request_of_what_is_left(caddy, status, length):
    hidden = get("acme.localhost", "/webhook/hidden")
    body = (hidden * (length // len(hidden) + 1))[:length]
    with hasty(status) as (agent, asked):
        CaddyRouter().sync(lambda: [make_route("acme", agent, PATHS)])
        for _ in range(5):  # how far the body had come by then is a matter of chance
            statuses, told = heard(caddy.port, post("acme.localhost", "/webhook", body) + hidden)
            assert len(statuses) <= 1
            assert not told or b"Connection: close\r\n" in told
    assert asked
    assert not [line for line in asked if "hidden" in line]


def test_an_agent_that_answers_a_body_of_unknown_length_without_reading_ends_the_connection(caddy):
    chunk = b"10000\r\n" + (get("acme.localhost", "/webhook/hidden") * 2_000)[:65_536] + b"\r\n"
    start = b"POST /webhook HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with hasty(204) as (agent, asked):
        CaddyRouter().sync(lambda: [make_route("acme", agent, PATHS)])
        statuses, _ = heard(caddy.port, start + chunk * 170)
    assert len(statuses) <= 1
    assert len(asked) == 1


def test_an_error_without_a_body_and_an_answer_leave_the_connection_open(reading):
    line = http.client.HTTPConnection("127.0.0.1", reading.port, timeout=30)
    for method, path, body in (("GET", "/metrics", None), ("POST", "/webhook", b"x" * 9_000), ("GET", "/ws", None)):
        line.request(method, path, body, {"Host": "acme.localhost"})
        told = line.getresponse()
        told.read()
        assert not told.will_close
    line.close()


class FrontProxy:
    """One that keeps its connection to us and gives it to the next visitor, as load balancers do."""

    def __init__(self, port):
        self.port = port
        self.line = None

    def ask(self, request):
        """The answer's status and body for one visitor."""
        self.line = self.line or socket.create_connection(("127.0.0.1", self.port), timeout=30)
        with suppress(ConnectionError):
            self.line.sendall(request)
        told = http.client.HTTPResponse(self.line)
        told.begin()
        found = told.status, told.read()
        if told.will_close:
            self.line.close()
            self.line = None
        return found


@pytest.mark.parametrize(("host", "path", "limit"), OWN[:2])
def test_a_front_proxy_that_reuses_connections_gives_every_visitor_the_own_answer(reading, host, path, limit):
    front = FrontProxy(reading.port)
    path_of = "/webhook/{}" if host.startswith("acme") else "/visitor/{}"
    # The first line of what is left over takes the next visitor's request, header and all, for its own body.
    evil = f"POST {path_of.format('evil')} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n".encode()
    for number in range(10):
        assert front.ask(post(host, path, b"x" * (limit + 1) + evil * 2_000))[0] == 413
        mine = f"GET {path_of.format(number)} HTTP/1.1\r\nHost: {host}\r\nX-Visitor: v{number}\r\n\r\n".encode()
        assert front.ask(mine) == (200, f"{path_of.format(number)} v{number}".encode())


HTTP2 = """
const http2 = require("http2"), [port, limit] = process.argv.slice(1).map(Number);
const session = http2.connect(`https://localhost:${port}`, {rejectUnauthorized: false, servername: "acme.localhost"});
const told = [];
session.on("error", fault => { console.error(fault); process.exit(3); });
session.on("goaway", () => told.push("goaway"));
const ask = (method, path, body) => new Promise(done => {
  const stream = session.request({":method": method, ":path": path, ":authority": `acme.localhost:${port}`});
  stream.on("response", headers => told.push(`${path} ${headers[":status"]}`));
  stream.on("error", () => {}).on("close", done).resume();
  body ? stream.end(body) : stream.end();
});
(async () => {
  const large = ask("POST", "/v1/chat/completions", Buffer.alloc(limit + 300001, "x"));
  await Promise.all([large, ask("GET", "/webhook/beside")]);
  await ask("GET", "/webhook/behind");
  console.log(JSON.stringify(told.sort()));
  session.destroy();
})();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_on_http2_a_body_too_large_ends_its_own_stream_and_no_other(caddy, settings):
    settings.CADDY_HTTPS = True
    with serving(reader) as settings.PORT, serving(reader) as agent:
        CaddyRouter().sync(lambda: [make_route("acme", agent, PATHS)])
        _wait_for_certificate(caddy.port)
        argv = ["node", "-e", HTTP2, str(caddy.port), str(MB)]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    answers = ["/v1/chat/completions 413", "/webhook/behind 200", "/webhook/beside 200"]
    assert json.loads(told.stdout) == answers


def _wait_for_certificate(port):
    """It is made in the background."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            trusting.wrap_socket(raw, server_hostname="acme.localhost").close()
            return
        threading.Event().wait(0.1)
    raise AssertionError("Caddy has no certificate")
