"""Between the web and the container engine: lets through what the web needs of this installation's own containers,
which is looking, logs, statistics and exec, and nothing that makes, changes or removes anything.

Whoever may talk to an engine freely is root on its host. One request per connection: the engine is told to close, so
nothing can follow what was looked at.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import structlog

HEAD_MAX, BODY_MAX, CHUNK = 16_384, 65_536, 65_536
HEAD_S, LOOK_S = 10.0, 10.0
_ID = r"(?P<id>[0-9a-f]{12,64})"
_OPEN = re.compile(r"/(?:_ping|version|info)")
_LIST = re.compile(r"/containers/json")
_LOOK = re.compile(rf"/containers/{_ID}/(?:json|logs|stats|top)")
_EXEC = re.compile(rf"/containers/{_ID}/exec")
_EXECUTION = re.compile(r"/exec/(?P<exec>[0-9a-f]{64})/(?P<verb>start|json|resize)")
_VERBS = (("POST", "start"), ("POST", "resize"), ("GET", "json"))
_VERSION = re.compile(r"/v1\.[0-9]{1,2}(?=/)")
_FORBIDDEN_BODY = {"Privileged", "WorkingDir", "DetachKeys"}
log = structlog.get_logger(__name__)


class Refused(Exception):
    """Not let through, and why."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def plain(self) -> str:
        """The path without the API's version."""
        return _VERSION.sub("", self.path, count=1)


class EngineProxy:
    """Serves ``listen`` for the engine at ``engine``, both paths of unix sockets; ``instance`` is our label."""

    def __init__(self, engine: Path, listen: Path, instance: str) -> None:
        self.engine, self.listen, self.label = engine, listen, f"zcplatform.instance={instance}"

    async def serve(self, *, mode: int = 0o660) -> None:
        """Until cancelled. The socket belongs to our group."""
        self.listen.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path=str(self.listen), limit=HEAD_MAX)
        self.listen.chmod(mode)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                request = parse(await reader.readuntil(b"\r\n\r\n"))
                body = await _body(reader, request)
            await self._check(request, body)
            await self._pass_on(request, body, reader, writer)
        except Refused as error:
            log.warning("engine_request_refused", why=str(error))
            await _refuse(writer, HTTPStatus.FORBIDDEN, str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            await _refuse(writer, HTTPStatus.BAD_GATEWAY, type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _check(self, request: Request, body: bytes) -> None:
        """Refused unless it is one of the few, about a container of ours."""
        method, path = request.method, request.plain
        if method in ("GET", "HEAD") and (_OPEN.fullmatch(path) or _LIST.fullmatch(path)):
            return
        if method == "GET" and (found := _LOOK.fullmatch(path)):
            await self._check_ours(found["id"])
            return
        if method == "POST" and (found := _EXEC.fullmatch(path)):
            _check_exec(body)
            await self._check_ours(found["id"])
            return
        if (found := _EXECUTION.fullmatch(path)) and (method, found["verb"]) in _VERBS:
            seen = await self._ask(f"/exec/{found['exec']}/json")
            await self._check_ours(str(seen.get("ContainerID", "")))
            return
        raise Refused(f"{method} {path[:80]} is not let through")

    async def _check_ours(self, container: str) -> None:
        seen = await self._ask(f"/containers/{container}/json")
        labels = seen.get("Config", {}).get("Labels") or {}
        if f"zcplatform.instance={labels.get('zcplatform.instance')}" != self.label:
            raise Refused("the container is not this installation's")

    async def _ask(self, path: str) -> dict[str, dict[str, dict[str, str]]]:
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
        self, request: Request, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        upstream, out = await asyncio.open_unix_connection(str(self.engine))
        try:
            out.write(self._head(request, len(body)) + body)
            await out.drain()
            back = asyncio.create_task(_copy(upstream, writer))
            there = asyncio.create_task(_copy(reader, out)) if _hijacks(request) else None
            await back
            if there:
                there.cancel()
        finally:
            out.close()

    def _head(self, request: Request, length: int) -> bytes:
        """Rebuilt from what was understood: nothing that we read otherwise than the engine does goes through."""
        query = request.query
        if _LIST.fullmatch(request.plain):
            query = urlencode({"all": "1", "filters": json.dumps({"label": [self.label]})})
        lines = [f"{request.method} {request.path}{'?' + query if query else ''} HTTP/1.1", "Host: engine"]
        lines += [f"Content-Length: {length}", "Content-Type: application/json"] if length else []
        lines += ["Connection: Upgrade", "Upgrade: tcp"] if _hijacks(request) else ["Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse(head: bytes) -> Request:
    """The request's head; Refused for one that two readers could read differently."""
    first, *lines = head.decode("ascii", "strict").rstrip("\r\n").split("\r\n")
    method, target, version = [*first.split(" "), "", ""][:3]
    url = urlsplit(target)
    if version not in ("HTTP/1.1", "HTTP/1.0") or url.scheme or url.netloc or not re.fullmatch(r"[\w./~-]+", url.path):
        raise Refused("the request line is not understood")
    if ".." in url.path or "//" in url.path or not re.fullmatch(r"[\x21-\x7e]*", url.query):
        raise Refused("the path is not plain")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or name.lower() in headers:
            raise Refused("a header is odd or stands twice")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise Refused("chunked bodies are not let through")
    return Request(method, url.path, url.query, headers)


def _check_exec(body: bytes) -> None:
    """No more than the container's own user may do anyway."""
    wanted = json.loads(body or b"{}")
    if not isinstance(wanted, dict):
        raise Refused("exec asks with no object")
    opened = sorted(name for name in _FORBIDDEN_BODY if wanted.get(name))
    if opened:
        raise Refused(f"exec asks for {', '.join(opened)}")
    user = str(wanted.get("User") or "")
    if user and not re.fullmatch(r"[1-9][0-9]{4,9}(?::[1-9][0-9]{4,9})?", user):
        raise Refused("exec asks for a user of the system")


async def _body(reader: asyncio.StreamReader, request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_MAX:
        raise Refused("the body is too large")
    return await reader.readexactly(int(length))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()


async def _refuse(writer: asyncio.StreamWriter, status: HTTPStatus, why: str) -> None:
    content = json.dumps({"message": f"refused between web and engine: {why}"}).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    with suppress(OSError):
        await writer.drain()


def _hijacks(request: Request) -> bool:
    found = _EXECUTION.fullmatch(request.plain)
    return bool(found and found["verb"] == "start")
