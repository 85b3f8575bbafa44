"""Between the web and the container engine: lets through what the web needs of this installation's own containers,
which is looking, logs, statistics and exec, and nothing that makes, changes or removes anything.

Whoever may talk to an engine freely is root on its host. So one request per connection, which is judged and written
anew; of what follows it nothing reaches the engine, unless the engine itself answered 101: then the connection is the
stream of an exec, and no longer HTTP.
"""

from __future__ import annotations

import asyncio
import json
import re
import select
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from tenants.runtimes.base import LABEL_HELPER, LABEL_INSTANCE
from zcplatform.engine_requests import Refused, Request, fields, parse

HEAD_MAX, CHUNK, CONNECTIONS_MAX = 16_384, 65_536, 256
HEAD_S, LOOK_S, START_S, LOOK_EVERY_S = 10.0, 10.0, 30.0, 1.0
_SWITCHED = re.compile(rb"HTTP/1\.1 101[ \r]")
log = structlog.get_logger(__name__)


class EngineProxy:
    """Serves ``listen`` for the engine at ``engine``, both paths of unix sockets; ``instance`` is our label."""

    def __init__(self, engine: Path, listen: Path, instance: str) -> None:
        self.engine, self.listen, self.instance = engine, listen, instance
        self._open = 0

    async def serve(self, *, mode: int = 0o660) -> None:
        """Until cancelled. The socket belongs to our group."""
        self.listen.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(
            self._connected, path=str(self.listen), limit=HEAD_MAX, backlog=CONNECTIONS_MAX
        )
        self.listen.chmod(mode)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            await self._serve_one(reader, writer)
        except Refused as error:
            log.warning("engine_request_refused", why=str(error))
            await _refuse(writer, HTTPStatus.FORBIDDEN, str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            await _refuse(writer, HTTPStatus.BAD_GATEWAY, type(error).__name__)
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open > CONNECTIONS_MAX:
            await _refuse(writer, HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            return
        async with asyncio.timeout(HEAD_S):
            request = parse(await reader.readuntil(b"\r\n\r\n"))
            body = await reader.readexactly(request.length)
        await self._pass_on(request, await self._judged(request, body), reader, writer)

    async def _judged(self, request: Request, body: bytes) -> bytes:
        """What the engine is sent; Refused unless it is about a container of ours."""
        said, path, query = fields(request, body), request.path, request.query
        match request.kind.name:
            case "list":
                filters = {"label": [f"{LABEL_INSTANCE}={self.instance}"]}
                query = {"all": "1", "filters": json.dumps(filters)}
            case "inspect" | "top" | "logs" | "stats":
                seen = await self._ours(request.id)
                path = path.replace(request.id, seen["Id"], 1)
            case "exec":
                seen = await self._ours(request.id, alive=True)
                path = path.replace(request.id, seen["Id"], 1)
                said = _as_its_own_user(said, seen)
            case "start" | "resize" | "look":
                await self._check_execution(request.id)
        return request.written(path=path, query=query, body=json.dumps(said).encode() if request.kind.body else b"")

    async def _check_execution(self, execution: str) -> None:
        """One of an agent of ours, that does no more than an exec that we let through: others may have made it."""
        seen = await self._ask(f"/exec/{execution}/json")
        container = await self._ours(str(seen.get("ContainerID", "")), alive=True)
        process = seen.get("ProcessConfig") or {}
        if process.get("privileged") or process.get("user", "") not in ("", _own_user(container)):
            raise Refused("the exec does more than the agent's own user may")

    async def _ours(self, container: str, *, alive: bool = False) -> dict[str, Any]:
        """What the engine knows of it. ``alive`` asks for an agent: a helper of ours may be root, with a tenant's
        folder."""
        seen = await self._ask(f"/containers/{container}/json") if container else {}
        labels = seen.get("Config", {}).get("Labels") or {}
        if labels.get(LABEL_INSTANCE) != self.instance:
            raise Refused("the container is not this installation's")
        if alive and LABEL_HELPER in labels:
            raise Refused("the container is no agent")
        return seen

    async def _ask(self, path: str) -> dict[str, Any]:
        """A look of our own; an empty object for what the engine does not have."""
        async with asyncio.timeout(LOOK_S):
            reader, writer = await asyncio.open_unix_connection(str(self.engine))
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        seen = json.loads(body) if b" 200 " in head.split(b"\r\n")[0] else {}
        return seen if isinstance(seen, dict) else {}

    async def _pass_on(
        self, request: Request, sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        upstream, out = await asyncio.open_unix_connection(str(self.engine))
        there: asyncio.Task[None] | None = None
        try:
            out.write(sent)
            await out.drain()
            switched = request.upgrades and await _answered_101(upstream, writer)
            if request.upgrades and not switched:
                out.write_eof()  # it was not asked to close, as with any other request
            there = asyncio.create_task(_copy(reader, out) if switched else _drop(reader, out))
            await _until_gone(writer, asyncio.create_task(_copy(upstream, writer)))
        finally:
            if there:
                there.cancel()
            out.close()


def _own_user(container: dict[str, Any]) -> str:
    return str(container.get("Config", {}).get("User") or "")


def _as_its_own_user(said: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    """No more than the container's own user may do anyway."""
    own = _own_user(container)
    if said.get("User", "") not in ("", own):
        raise Refused("exec asks for another user than the agent's own")
    return {**said, "User": own, "Privileged": False}


async def _answered_101(upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Pass the head of the engine's answer on. Whether the protocol changes is what the engine says, not what was
    asked for."""
    async with asyncio.timeout(START_S):
        head = await upstream.readuntil(b"\r\n\r\n")
    writer.write(head)
    return _SWITCHED.match(head) is not None


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
        target.write_eof()


async def _until_gone(client: asyncio.StreamWriter, carrying: asyncio.Task[None]) -> None:
    """Wait until all is carried to the client, or it has closed both ways. What it closed alone, it may still read; and
    with nothing to carry, nobody else would see that it has gone."""
    hung_up = select.poll()
    hung_up.register(client.get_extra_info("socket").fileno(), 0)
    try:
        while not (await asyncio.wait({carrying}, timeout=LOOK_EVERY_S))[0]:
            if client.is_closing() or hung_up.poll(0):  # what is closed here may have lent its number to another
                return
    finally:
        carrying.cancel()


async def _drop(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Nothing of what follows a request is passed on but its end: the engine then stops what nobody reads."""
    with suppress(OSError):
        while await source.read(CHUNK):
            pass
        target.write_eof()


async def _refuse(writer: asyncio.StreamWriter, status: HTTPStatus, why: str) -> None:
    content = json.dumps({"message": f"refused between web and engine: {why}"}).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    with suppress(OSError):
        await writer.drain()
