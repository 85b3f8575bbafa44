"""The proxy for agents in the modes ``gateway`` and ``allowlist``.

It listens on the gateway addresses of their networks only, and knows whose a connection is by its source address: a
container has no right to take another. It decrypts nothing: a tunnel's content is the agent's and the host's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from django.conf import settings
from django.db import close_old_connections

from tenants.egress import bridges, counts, policy
from tenants.egress.bridges import Bridge
from tenants.egress.dial import Guarded, Streams, dial
from tenants.egress.policy import Policy
from tenants.egress.request import MAX_HEAD, NotARequest, Request, parse
from tenants.states import Egress

log = logging.getLogger(__name__)
HEAD_S = 10.0
LOOK_EVERY_S = 1.0
RECHECK_EVERY_S = 30.0
CONNECTIONS_PER_TENANT = 128
PIECE = 65_536


class Answer(Exception):
    """A refusal in HTTP's words."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(status)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Tunnel:
    """An open connection, so that it can be looked at again."""

    bridge: Bridge
    slot: int
    host: str
    port: int


class Proxy:
    """``present`` says which bridges there are now."""

    def __init__(self, present: Callable[[], Iterable[Bridge]] = bridges.present) -> None:
        self.present, self.ledger = present, counts.Ledger()
        self.servers: dict[Bridge, asyncio.Server] = {}
        self.tunnels: dict[asyncio.Task[None], Tunnel] = {}
        self.busy = Counter[tuple[Bridge, int]]()
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Until cancelled: follow the networks that come and go, and close what is no longer allowed."""
        loop = asyncio.get_running_loop()
        recheck_at = loop.time() + RECHECK_EVERY_S
        while True:
            await self.follow()
            await asyncio.to_thread(self.ledger.write)
            if loop.time() >= recheck_at:
                await self.recheck()
                recheck_at = loop.time() + RECHECK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)

    async def follow(self) -> None:
        """Listen on every network of the proxied modes, and on no other."""
        wanted = {bridge for bridge in self.present() if bridge.mode != Egress.OPEN}
        for bridge in set(self.servers) - wanted:
            self.servers.pop(bridge).close()
        for bridge in wanted - set(self.servers):
            await self._listen(bridge)

    async def _listen(self, bridge: Bridge) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.CancelledError):  # by ``recheck``: no error to tell of
                await self._serve(bridge, reader, writer)

        try:
            self.servers[bridge] = await asyncio.start_server(
                serve, bridge.address, settings.EGRESS_PROXY_PORT, limit=MAX_HEAD
            )
            self._failing.discard(bridge.name)
        except OSError as error:
            if bridge.name not in self._failing:
                log.error("the proxy can't listen", extra={"bridge": bridge.name, "error": str(error)})
            self._failing.add(bridge.name)

    async def recheck(self) -> None:
        """Close every tunnel that a change of the tenant's rows has forbidden since it was opened."""
        for task, tunnel in list(self.tunnels.items()):
            try:
                found = await self._policy(tunnel.bridge, tunnel.slot)
            except Answer:
                return  # the rows can't be read now: next time
            if found is None or not found.allows(tunnel.host, tunnel.port):
                task.cancel()

    async def _serve(self, bridge: Bridge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slot = bridge.slot_of(str(writer.get_extra_info("peername")[0]))
        key = (bridge, -1 if slot is None else slot)
        self.busy[key] += 1
        try:
            if slot is None or self.busy[key] > CONNECTIONS_PER_TENANT:
                raise Answer("429 Too Many Requests", "too many connections at once")
            await self._proxy(bridge, slot, reader, writer)
        except Answer as answer:
            with suppress(OSError):
                writer.write(_refusal(answer))
                await writer.drain()
        except OSError:
            pass  # the agent went away
        finally:
            self.busy[key] -= 1
            if not self.busy[key]:
                del self.busy[key]
            writer.close()

    async def _proxy(
        self, bridge: Bridge, slot: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await _read(reader)
        found = await self._policy(bridge, slot)
        if found is None:
            raise Answer("403 Forbidden", "no tenant has this address")
        upstream = await self._open(found, request)
        tally = self.ledger.of(found.tenant)
        tally.allowed += 1
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.tunnels[task] = Tunnel(bridge, slot, request.host, request.port)
        try:
            if request.is_tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            upstream[1].write(request.forward)
            await _exchange((reader, writer), upstream, tally)
        finally:
            del self.tunnels[task]
            upstream[1].close()

    async def _policy(self, bridge: Bridge, slot: int) -> Policy | None:
        def ask() -> Policy | None:
            close_old_connections()
            return policy.at(bridge.mode, slot)

        try:
            return await asyncio.to_thread(ask)
        except Exception:
            log.exception("the proxy can't read the tenant's rows")
            raise Answer("503 Service Unavailable", "try again") from None

    async def _open(self, found: Policy, request: Request) -> Streams:
        if not found.allows(request.host, request.port):
            await self._refuse(found, request, "not allowed for this agent")
        try:
            return await dial(request.host, request.port, internal=settings.EGRESS_INTERNAL)
        except Guarded:
            await self._refuse(found, request, "leads to no public address")
            raise
        except OSError as error:
            self.ledger.of(found.tenant).failed += 1
            raise Answer("502 Bad Gateway", "the host does not answer") from error

    async def _refuse(self, found: Policy, request: Request, why: str) -> None:
        self.ledger.of(found.tenant).refused += 1
        if self.ledger.is_news(found.tenant, f"{request.host}:{request.port}"):
            try:
                await asyncio.to_thread(counts.audit_refusal, found, request.host, request.port, why)
            except Exception:
                log.exception("a refusal could not be audited")
        raise Answer("403 Forbidden", f"{request.host}:{request.port} {why}")


async def _read(reader: asyncio.StreamReader) -> Request:
    try:
        async with asyncio.timeout(HEAD_S):
            return parse(await reader.readuntil(b"\r\n\r\n"))
    except (asyncio.LimitOverrunError, NotARequest) as error:
        raise Answer("400 Bad Request", "not a request to a proxy") from error
    except TimeoutError as error:
        raise Answer("408 Request Timeout", "no request came") from error
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("gone before a request was there") from error


async def _exchange(agent: Streams, upstream: Streams, tally: counts.Counts) -> None:
    """Carry bytes both ways until both have ended, or one has broken off."""
    for _, writer in (agent, upstream):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as both:
            both.create_task(_carry(agent[0], upstream[1], tally, "sent"))
            both.create_task(_carry(upstream[0], agent[1], tally, "received"))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: counts.Counts, way: str) -> None:
    while piece := await reader.read(PIECE):
        setattr(tally, way, getattr(tally, way) + len(piece))
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _refusal(answer: Answer) -> bytes:
    body = f"zcplatform: {answer.why}\n".encode()
    head = f"HTTP/1.1 {answer.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
