"""Many agents in one thread: ports of the loopback that answer as they are told."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any, Self


class Listeners:
    """``open(mode)`` gives a port. ``modes[port]`` may be changed at any time: ``ok``, ``503``, ``hang``, ``drop``,
    ``302`` (to the body), ``drip`` (a byte a second), ``flood`` or ``raw``. ``bodies[port]`` is what is answered, with
    ``raw`` the head too; ``asked`` counts requests."""

    def __init__(self) -> None:
        self.modes: dict[int, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.asked: dict[int, int] = {}
        self.hung, self.hold_until = 0, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def open(self, mode: str = "ok", *, port: int = 0) -> int:
        return asyncio.run_coroutine_threadsafe(self._open(mode, port), self._loop).result(20)

    async def _open(self, mode: str, port: int) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=512)
        self._servers.append(server)
        number: int = server.sockets[0].getsockname()[1]
        self.modes[number], self.asked[number] = mode, 0
        return number

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        self.asked[port] += 1
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            mode = self.modes[port]
            if mode != "drop":
                await reader.readuntil(b"\r\n\r\n")
                await self._answer(mode, self.bodies.get(port, b"{}"), reader, writer)
        writer.close()

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        """For a minute, until whoever asked is gone, or until as many hang as ``hold_until`` says."""
        self.hung += 1
        for _ in range(600):
            if reader.at_eof() or (self.hold_until and self.hung >= self.hold_until):
                break
            await asyncio.sleep(0.1)

    async def _answer(self, mode: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if mode == "hang":
            await self._hang(reader)
            return
        if mode == "raw":
            writer.write(body)
            await writer.drain()
            return
        status = {"503": "503 No", "302": f"302 Found\r\nLocation: {body.decode()}"}.get(mode, "200 OK")
        length = 10_000_000 if mode in ("drip", "flood") else len(body)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        while mode == "drip":
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(1)
        writer.write(b"." * length if mode == "flood" else body)
        await writer.drain()
