"""An agent's answer speaks of itself alone: nothing in it reaches a sibling's cookies, or a browser's memory of a
site, or a proxy in front of us. Real Caddy, and a hostile agent; the direct router's part is in test_door."""

from __future__ import annotations

import http.client
import json
import socket

import pytest
from websockets.sync.client import connect

from tenants.routing.caddy import CaddyRouter
from tests.caddy import make_route
from tests.serving import answer, read_body, serving
from tests.tenants.routing.test_unread_bodies import hasty

pytestmark = pytest.mark.caddy
HOSTILE = {
    "Set-Cookie": "zc_session=theirs; Domain=localhost; Path=/",
    "Set-Cookie2": "a=b",
    "Clear-Site-Data": '"*"',
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Public-Key-Pins": "max-age=1",
    "Expect-CT": "max-age=1",
    "Alt-Svc": 'h3=":443"',
    "NEL": "{}",
    "Report-To": "{}",
    "Reporting-Endpoints": 'a="https://evil.test"',
    "Service-Worker-Allowed": "/",
    "Origin-Agent-Cluster": "?0",
    "Origin-Trial": "x",
    "Accept-CH": "Sec-CH-UA",
    "Critical-CH": "Sec-CH-UA",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Credentials": "true",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Security-Policy-Report-Only": "default-src x; report-uri https://evil.test",
    "Permissions-Policy": "camera=*",
    "Refresh": "0; url=https://evil.test",
    "Link": "</x>; rel=preload",
    "SourceMap": "/x",
    "WWW-Authenticate": "Basic realm=x",
    "Secure-Session-Registration": '(ES256);path="/"',
    "Speculation-Rules": '"/x"',
    "X-Accel-Redirect": "/etc/passwd",
    "X-Sendfile": "/etc/passwd",
    "X-Request-ID": "theirs",
    "Cookie": "a=b",
    "0-Begins-With-A-Digit": "x",
    "X-Frame-Options": "ALLOWALL",
}
PASSING = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Language": "pt",
    "ETag": '"1"',
    "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT",
    "Cache-Control": "max-age=60",
    "Location": "/webhook",
    "Retry-After": "7",
    "Vary": "Accept",
}
SENT = [(name.encode(), value.encode()) for name, value in {**HOSTILE, **PASSING}.items()]


class Hostile:
    """Answers everything with all it can think of, and keeps the headers that came in."""

    def __init__(self):
        self.got = []

    async def __call__(self, scope, receive, send):
        self.got.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if scope["type"] == "websocket":
            await receive()
            hello = [(name, value) for name, value in SENT if name not in (b"Content-Type", b"Vary")]
            await send({"type": "websocket.accept", "subprotocol": "chat.v1", "headers": hello})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        await read_body(receive)
        await answer(send, int(scope["path"].rpartition("/")[2]), b"<script>1</script>", *SENT)


@pytest.fixture
def hostile(caddy):
    agent = Hostile()
    with serving(agent) as port:
        CaddyRouter().sync(lambda: [make_route("acme", port, ("/webhook/*", "/ws"))])
        yield agent


def ask(port, path, headers=None):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    line.request("GET", path, headers={"Host": "acme.localhost", **(headers or {})})
    told = line.getresponse()
    content = told.read()
    line.close()
    return told, content


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_nothing_of_an_answer_reaches_beyond_it(caddy, hostile, status):
    told, content = ask(caddy.port, f"/webhook/{status}")
    names = {name.lower() for name, _ in told.getheaders()}
    assert (told.status, content) == (status, b"<script>1</script>")
    assert names & {name.lower() for name in HOSTILE} == set()
    assert {name: told.getheader(name) for name in PASSING} == PASSING
    assert told.headers.get_all("Content-Security-Policy") == ["sandbox allow-scripts allow-forms"]
    assert told.getheader("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_does_not_exist_takes_no_page_out_of_its_sandbox(caddy, status):
    with hasty(status) as (agent, _):
        CaddyRouter().sync(lambda: [make_route("acme", agent, ("/webhook",))])
        told, _ = ask(caddy.port, "/webhook")
    assert told.status == status
    assert told.getheader("Content-Security-Policy") == "sandbox allow-scripts allow-forms"
    assert told.getheader("X-Content-Type-Options") == "nosniff"


def test_a_websocket_opens_and_its_handshake_sets_nothing(caddy, hostile):
    with connect(f"ws://acme.localhost:{caddy.port}/ws", sock=_line(caddy.port), subprotocols=["chat.v1"]) as ws:
        names = {name.lower() for name in ws.response.headers}
        assert names & {name.lower() for name in HOSTILE} == set()
        assert ws.subprotocol == "chat.v1"
        ws.send("hello")
        assert ws.recv(timeout=20) == "hello"


def test_no_cookie_goes_to_an_agent_and_its_own_credentials_do(caddy, hostile):
    ask(caddy.port, "/webhook/200", {"Cookie": "zc_session=secret; other=1", "Authorization": "Bearer theirs"})
    more = {"additional_headers": {"Cookie": "a=1"}, "subprotocols": ["chat.v1"]}
    with connect(f"ws://acme.localhost:{caddy.port}/ws", sock=_line(caddy.port), **more):
        pass
    assert len(hostile.got) == 2
    assert "cookie" not in json.dumps(hostile.got).lower()
    assert hostile.got[0]["authorization"] == "Bearer theirs"


def _line(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)
