"""The promise to a tenant: a chat that is open stays open while others come and go."""

import http.client
import threading

import pytest
from websockets.sync.client import connect

from tenants.routing.caddy import CaddyRouter
from tests.caddy import make_route
from tests.tenants.routing.upstream import Upstream

pytestmark = pytest.mark.caddy


class Reader(threading.Thread):
    """Reads a stream to its end, or to where it broke."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.request("GET", "/stream", headers={"Host": "steady.localhost"})
        self.answer = self.connection.getresponse()
        self.lines = [self.answer.readline()]
        self.error = None

    def run(self):
        try:
            while line := self.answer.readline():
                self.lines.append(line)
        except Exception as error:
            self.error = error


def test_a_websocket_and_a_stream_survive_other_tenants_coming_and_going(caddy):
    router = CaddyRouter()
    steady = ("/ws", "/stream")
    with Upstream().run() as upstream:
        routes = {"steady": make_route("steady", upstream.port, steady)}
        router.sync(lambda: list(routes.values()))
        with connect(f"ws://steady.localhost:{caddy.port}/ws", sock=_socket(caddy.port)) as ws:
            reader = Reader(caddy.port)
            reader.start()

            def change(act, *slugs):
                for slug in slugs:
                    act(slug)
                assert router.sync(lambda: list(routes.values()))
                ws.send(slugs[0])
                assert ws.recv(timeout=20) == slugs[0]

            def add(slug):
                routes[slug] = make_route(slug, upstream.port)

            others = [f"other-{n}" for n in range(50)]
            for slug in others:
                change(add, slug)
            assert len(caddy.server()["routes"][2]["handle"][-1]["routes"]) == 51
            for slug in others:
                change(routes.pop, slug)
            for batch in (others[:25], others[25:]):
                change(add, *batch)
            change(routes.pop, *others)

            upstream.finish.set()
            reader.join(60)
            assert reader.error is None
            assert reader.lines[-1] == b"end\n"
            assert reader.lines[:-1] == [b"%d\n" % n for n in range(len(reader.lines) - 1)]
            ws.send("still here")
            assert ws.recv(timeout=20) == "still here"


def test_the_change_of_a_tenants_own_route_leaves_its_open_websocket(caddy):
    router = CaddyRouter()
    with Upstream().run() as upstream:
        router.sync(lambda: [make_route("steady", upstream.port, ("/ws",))])
        with connect(f"ws://steady.localhost:{caddy.port}/ws", sock=_socket(caddy.port)) as ws:
            router.sync(lambda: [make_route("steady", upstream.port, ("/ws", "/webhook"))])
            ws.send("hello")
            assert ws.recv(timeout=20) == "hello"


def _socket(port):
    """Connected by address: ``*.localhost`` does not resolve here."""
    import socket

    return socket.create_connection(("127.0.0.1", port), timeout=20)
