"""Services outside the platform, played by real HTTP servers on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Notes what it was asked in ``server.seen`` and leaves the answer to ``server.script``."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(self)
        self.server.script(self)
        self.close_connection = True

    do_POST = do_GET

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, body: Any) -> None:
        self.answer(status, json.dumps(body).encode(), Content_Type="application/json")

    def log_message(self, *args: Any) -> None:
        """Silence."""


def fine(handler: Handler) -> None:
    handler.answer_json(200, {"ok": True})


@contextmanager
def server(script: Callable[[Handler], None] = fine, tls: Any = None) -> Iterator[Any]:
    """A server with ``connections`` (how many were accepted) and ``seen`` (the handlers of its requests)."""
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.script, made.seen, made.connections = True, script, [], 0
    accept = made.get_request

    def counting() -> Any:
        made.connections += 1
        return accept()

    made.get_request = counting
    if tls is not None:
        made.socket = tls.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def url(made: Any, host: str = "127.0.0.1", path: str = "/", scheme: str = "http") -> str:
    return f"{scheme}://{host}:{made.server_address[1]}{path}"
