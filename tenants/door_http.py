"""The door's side towards the client: where a request is meant for, what it brings, and how it is answered."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings

from accounts.rates import network_of
from tenants.door_pace import Pace
from zcplatform.lib.arriving import Arriving, Spool
from zcplatform.lib.client_ip import client_ip
from zcplatform.lib.envelope import to_envelope
from zcplatform.lib.errors import InvalidField, Overloaded, RequestError, TooLarge, Unauthenticated
from zcplatform.lib.slugs import check_slug

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MB = 1_048_576
MAX_BODY = MB
BODY_TIMEOUT_S, LARGE_TIMEOUT_S = 30, 55
"""The second for bodies of more than 1 MB; Caddy itself allows 60 s for a request."""
LINGER_S = 1
MAX_CREDENTIAL = 200
NO_TOKEN = "A valid access token of this tenant is needed."  # noqa: S105 - a message

_arriving, _large = Arriving(), Arriving(large=True)
_DIRECT = re.compile(r"/t/([^/]*)(/.*)?", re.DOTALL)
_ODD = re.compile(rb"%|//|\\|(?:^|/)\.{1,2}(?:/|$)")
_TOKEN_NAMES = frozenset({"token", "access_token", "api_key", "apikey", "key", "authorization", "bearer"})


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


class MethodNotAllowed(RequestError):
    """``details['allow']`` is the header that says what is."""

    status = 405
    default_type = "method_not_allowed"


class SlowBody(RequestError):
    status = 408
    default_type = "request_timeout"


@dataclass(frozen=True)
class Place:
    """Which tenant a request is for and the path below its address. An empty slug is nobody's."""

    slug: str
    path: str
    direct: bool = False


def place_of(scope: Scope) -> Place | None:
    """Where the request belongs when that is the door; None when it is the platform's own."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    slug = _tenant_of_host(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    if slug is not None:
        return Place(slug, scope["path"])
    if settings.ROUTER != "direct":
        return None
    found = _DIRECT.fullmatch(scope["path"])
    return Place(_slug_or_nothing(found[1]), found[2] or "/", direct=True) if found else None


def _tenant_of_host(value: str) -> str | None:
    """The slug in ``{slug}.{domain}``; empty for another name below the domain; None for a host that is not."""
    host = re.sub(r":[0-9]*\Z", "", value.lower()).removesuffix(".")
    own = {
        settings.PUBLIC_HOST.lower(),
        settings.DOMAIN,
        f"api.{settings.DOMAIN}",
        *map(str.lower, settings.ALLOWED_HOSTS),
    }
    if host in own or not host.endswith(f".{settings.DOMAIN}"):
        return None
    return _slug_or_nothing(host.removesuffix(f".{settings.DOMAIN}"))


def _slug_or_nothing(text: str) -> str:
    try:
        return check_slug(text)
    except InvalidField:
        return ""


@dataclass
class DoorRequest:
    """One HTTP request. Its id is made here: what a client sends under that name is not trusted."""

    scope: Scope
    receive: Receive
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _is_read: bool = field(default=False, init=False)
    _network: str = field(default="", init=False)

    async def breaks_off(self) -> bool:
        """Whether the connection has to end with an answer that did not need the body: some of it is still to come
        after a second, and the client could hold the connection for as long as it sends a byte now and then. Not at
        once, because what arrives after the end makes many a client drop the answer."""
        announced = self.values(b"transfer-encoding") or self.values(b"content-length") not in ([], ["0"])
        if self._is_read or not announced:
            return False
        try:
            async with asyncio.timeout(LINGER_S):
                await self.body()
        except (TimeoutError, TooLarge, SlowBody, Overloaded, ClientGone):
            return True
        return False

    def values(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == name]

    def below(self, place: Place) -> bytes:
        """The path below the tenant's address as it was sent, with the query; empty when it is an odd one."""
        path = self.scope.get("raw_path") or self.scope["path"].encode()
        path = path.removeprefix(f"/t/{place.slug}".encode()) if place.direct else path
        query = self.scope.get("query_string", b"")
        return b"" if _ODD.search(path) else path + (b"?" + query if query else b"")

    def ip(self) -> str:
        """The caller's address, as far as it can be believed."""
        peer = (self.scope.get("client") or ("", 0))[0]
        return client_ip(
            peer, ",".join(self.values(b"x-forwarded-for")), behind_proxy=settings.BEHIND_PROXY, own=settings.BIND
        )

    def network(self) -> str:
        """By what limits count the caller. Asked several times, also of a request that is shed."""
        if not self._network:
            self._network = network_of(self.ip())
        return self._network

    def bearer(self) -> str:
        """The credential; RequestError for two of them or one in the address, Unauthenticated for none."""
        query = parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if any(name.lower() in _TOKEN_NAMES for name, _ in query):
            raise RequestError("A token belongs into the Authorization header.", type="token_in_query")
        given = self.values(b"authorization")
        if len(given) > 1:
            raise RequestError("Send one Authorization header.", type="two_credentials")
        scheme, _, value = given[0].partition(" ") if given else ("", "", "")
        if scheme.lower() != "bearer" or not 0 < len(value) <= MAX_CREDENTIAL:
            raise Unauthenticated(NO_TOKEN)
        return value

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Counted while it is read, whatever Content-Length says: TooLarge above ``limit`` bytes;
        SlowBody when it takes longer than 30 s; Overloaded when too much of others is on its way; ClientGone when it
        breaks off."""
        with _arriving.of(self.network()) as here:
            return await self._in_time(limit, here)

    @asynccontextmanager
    async def large_body(self, limit: int) -> AsyncIterator[tuple[bytes, Callable[[int], None]]]:
        """The same for who has shown a token, as JSON. It counts for as long as the block lasts; what is made of it can
        be added by a call of the second with bytes."""
        self.check_json()
        with _large.of(self.network()) as here:
            yield await self._in_time(limit, here), here

    async def _in_time(self, limit: int, here: Callable[[int], None]) -> bytes:
        lengths = self.values(b"content-length")
        if lengths and lengths[0].isdecimal() and int(lengths[0][:20]) > limit:
            raise too_large(limit)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S if limit <= MAX_BODY else LARGE_TIMEOUT_S):
                return await self._read(limit, here)
        except TimeoutError as error:
            raise SlowBody("The body did not arrive in time.") from error

    async def _read(self, limit: int, here: Callable[[int], None]) -> bytes:
        with closing(Spool()) as spool:
            while True:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                spool.add(message.get("body", b""))
                if spool.size > limit:
                    raise too_large(limit)
                here(spool.size)
                if not message.get("more_body", False):
                    self._is_read = True
                    return spool.content()

    async def json_body(self) -> bytes:
        self.check_json()
        return await self.body()

    def check_json(self) -> None:
        """RequestError ``bad_json`` for another kind of content; none that is named is JSON."""
        kinds = self.values(b"content-type")
        if kinds and kinds[0].partition(";")[0].strip().lower() not in ("", "application/json"):
            raise RequestError("The body must be application/json.", type="bad_json")

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, and cancel it as soon as the client hangs up: ClientGone. Only once the body is read."""
        tasks = asyncio.ensure_future(work), asyncio.ensure_future(self._hung_up())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise ClientGone
            tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hung_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have {limit // MB} MB.")


class Answer:
    """What goes back to the client; every answer carries the request id and is never cached."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id
        self.status = 0
        self._events = False
        self._pace = Pace()

    async def json(self, status: int, body: dict[str, Any], headers: Headers | None = None) -> None:
        await self.start(status, [(b"content-type", b"application/json"), *(headers or [])])
        await self.write(json.dumps(body).encode(), more=False)

    async def page(self, status: int, content: bytes, *, retry_after: int) -> None:
        """For people; ``retry_after`` is in seconds."""
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"retry-after", str(retry_after).encode())]
        policy = "; ".join(f"{name} {value}" for name, value in settings.CONTENT_SECURITY_POLICY.items())
        await self.start(status, [*headers, (b"content-security-policy", policy.encode())])
        await self.write(content, more=False)

    async def start_events(self) -> None:
        self._events = True
        await self.start(200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")])

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        common = [
            (b"x-request-id", self._id.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *common]})

    async def write(self, content: bytes, *, more: bool = True) -> None:
        """Of an answer that goes on, at the pace of ``tenants.door_pace``."""
        await self._send({"type": "http.response.body", "body": content, "more_body": more})
        if more:
            await self._pace.keep(len(content))

    async def error(self, error: Exception, *, close: bool = False) -> None:
        """The envelope, and with ``close`` the end of the connection. Once a stream of events has begun, a last event
        that holds it; another answer that has begun is left unfinished, so that the server cuts the connection and the
        client sees that it is torn."""
        status, body = to_envelope(error, self._id)
        if not self.status:
            end = [(b"connection", b"close")] if close else []
            await self.json(status, body, _headers_of(status, body["error"]["details"]) + end)
        elif self._events:
            await self.write(b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n", more=False)


def _headers_of(status: int, details: dict[str, Any]) -> Headers:
    if status == 401:
        return [(b"www-authenticate", b"Bearer")]
    if status == 405:
        return [(b"allow", str(details.get("allow", "POST")).encode())]
    if status in (429, 503):
        return [(b"retry-after", str(details.get("retry_after", 5)).encode())]
    return []
