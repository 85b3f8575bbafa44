"""What stands behind Caddy in these tests: says what it got, echoes a WebSocket, streams until told to end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving import answer, read_body, serving


class Upstream:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.port = 0
        self.finish = threading.Event()

    @contextmanager
    def run(self) -> Iterator[Upstream]:
        with serving(self) as self.port:
            yield self

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.echo(receive, send)
        elif scope["path"] == "/stream":
            await self.stream(send)
        else:
            body = await read_body(receive)
            said = {
                "name": self.name,
                "path": scope["raw_path"].decode(),
                "size": len(body),
                "headers": [[k.decode(), v.decode()] for k, v in scope["headers"]],
            }
            await answer(send, 200, json.dumps(said).encode())

    async def echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def stream(self, send: Any) -> None:
        """Numbered lines, and ``end`` after the last one."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        number = 0
        while not self.finish.is_set():
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            number += 1
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b"end\n"})
