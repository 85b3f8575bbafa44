"""The one way out of the platform to an address that somebody else chose: models, channels, webhooks.

The guard sits at the socket: a name is resolved once, every address is judged by ``zcplatform.lib.outside``, and the
connection goes to exactly the address that was judged, under the name's certificate and Host. Redirects are answers
like any other, proxies and ``.netrc`` of the environment are not looked at, and nothing is remembered between calls.
Built on httpcore, httpx's own engine, because its network backend is where a connection can be judged and timed.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
import httpcore
import httpx

from zcplatform.lib import outside
from zcplatform.lib.errors import BadUpstream, DependencyDown, DependencyTimeout, InvalidField

TOTAL_S = 30.0
CONNECT_S = 5.0
MAX_BYTES = 10 * 1_048_576
"""Of an answer, after decompression."""
MAX_ADDRESSES = 4
WRITE_BYTES = 65_536

# Threads of its own: a resolver that hangs holds up nobody but those who ask it.
_resolver = ThreadPoolExecutor(8, thread_name_prefix="resolver")


def _renew_resolver() -> None:
    """A forked child has none of the threads, and would wait for them for ever."""
    global _resolver
    _resolver = ThreadPoolExecutor(8, thread_name_prefix="resolver")


os.register_at_fork(after_in_child=_renew_resolver)


@dataclass(frozen=True)
class Reply:
    """A whole answer, whatever its status. Header names are lower case; of one that came twice, the last counts."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The content as JSON; BadUpstream when it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise BadUpstream("The answer is not JSON.", type="endpoint_bad_answer") from error


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    body: Any = None,
    total_s: float = TOTAL_S,
    max_bytes: int = MAX_BYTES,
) -> Reply:
    """Send a request and read the whole answer; ``body`` is sent as JSON, ``content`` as it is.

    InvalidField ``endpoint_refused`` for an address that may not be called, DependencyDown ``endpoint_unreachable``,
    DependencyTimeout ``endpoint_timeout`` after ``total_s`` seconds for all of it, BadUpstream ``endpoint_too_large``
    or ``endpoint_bad_answer``. Never call it inside a database transaction.
    """
    endpoint = outside.endpoint_of(url)
    given = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
    if body is not None:
        content = json.dumps(body, allow_nan=False).encode()
    with _faults(), httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Guard(total_s)) as pool:
        url_parts = httpcore.URL(
            scheme=endpoint.scheme.encode(),
            host=endpoint.host.encode(),
            port=endpoint.port,
            target=endpoint.target.encode(),
        )
        with pool.stream(method, url_parts, headers=_headers(endpoint, given), content=content) as response:
            named = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
            chunks = _decoded(response.iter_stream(), named.get("content-encoding", ""), max_bytes)
            return Reply(response.status, named, _joined(chunks, max_bytes))


def addresses_of(host: str, port: int) -> list[str]:
    """What a name leads to, as the resolver spells it, whatever may be connected to; empty when it leads nowhere within
    five seconds."""
    try:
        return _Guard(CONNECT_S)._resolve(host, port)
    except (httpcore.ConnectError, httpcore.TimeoutException):
        return []


def guarded_connector(**options: Any) -> aiohttp.TCPConnector:
    """For asynchronous clients (aiohttp, or httpx over it): a connector whose every socket is judged as here.

    Check the URL with ``outside.endpoint_of`` first, switch redirects and ``trust_env`` off, and bound time and size.
    """
    return aiohttp.TCPConnector(socket_factory=_judged_socket, **options)


def _judged_socket(info: Any) -> socket.socket:
    """Called by aiohttp with the very address that it is about to connect to."""
    family, kind, protocol, _, address = info
    if not outside.permitted(str(address[0]), int(address[1])):
        raise OSError("this address may not be connected to")
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made


class _Guard(httpcore.NetworkBackend):
    """Connects to judged addresses only, and lets nothing last beyond the deadline."""

    def __init__(self, total_s: float) -> None:
        self._until = time.monotonic() + total_s
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        found = [address for address in self._resolve(host, port) if outside.permitted(address, port)]
        if not found:
            raise outside.refused("This address may not be called.")
        last: Exception = httpcore.ConnectError()
        for address in found[:MAX_ADDRESSES]:
            try:
                left = min(CONNECT_S, _left(self._until, httpcore.ConnectTimeout))
                return _Timed(self._inner.connect_tcp(address, port, left, None, socket_options), self._until)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    def _resolve(self, host: str, port: int) -> list[str]:
        """Every address of a name, spelled by the resolver: forms like 0x7f.1 are dotted then."""
        asked = _resolver.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            infos = asked.result(_left(self._until, httpcore.ConnectTimeout))
        except FutureTimeout as error:
            asked.cancel()
            raise httpcore.ConnectTimeout from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError from error
        return list(dict.fromkeys(str(info[4][0]) for info in infos))


class _Timed(httpcore.NetworkStream):
    """A stream whose every act ends at the deadline: a server that answers byte by byte gains nothing."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self._inner, self._until = inner, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(self._until, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_BYTES):
            piece = buffer[start : start + WRITE_BYTES]
            self._inner.write(piece, _left(self._until, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._until, httpcore.ConnectTimeout)
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, left), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(until: float, late: type[Exception]) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise late
    return left


def _headers(endpoint: outside.Endpoint, given: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """InvalidField for one that would end its line, which neither text nor error may show."""
    merged = {"Host": endpoint.authority, "User-Agent": "zcplatform", "Accept-Encoding": "gzip", **given}
    for name, value in merged.items():
        if not f"{name}{value}".isascii() or any(char in f"{name}{value}" for char in "\r\n\0"):
            raise InvalidField("A header holds what can't be sent.", type=outside.REFUSED, field="headers")
    return [(name.encode(), value.encode()) for name, value in merged.items()]


def _decoded(chunks: Iterable[bytes], encoding: str, limit: int) -> Iterator[bytes]:
    """The content as it was before compression; never more than ``limit`` and a byte of one chunk at a time."""
    if encoding.strip().lower() in ("", "identity"):
        yield from chunks
        return
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise BadUpstream("The answer is in an encoding that was not asked for.", type="endpoint_bad_answer")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for chunk in chunks:
            yield unpack.decompress(chunk, limit + 1)
    except zlib.error as error:
        raise BadUpstream("The answer can't be unpacked.", type="endpoint_bad_answer") from error


def _joined(chunks: Iterable[bytes], limit: int) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > limit:
            raise BadUpstream("The answer is too large.", type="endpoint_too_large")
    return bytes(content)


@contextmanager
def _faults() -> Iterator[None]:
    """Every fault of the other side as one of ours, without a word of what it said."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise DependencyTimeout("The service did not answer in time.", type="endpoint_timeout") from error
    except (httpcore.ConnectError, ssl.SSLError) as error:
        raise DependencyDown("The service does not answer.", type="endpoint_unreachable") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise BadUpstream("The service's answer broke off.", type="endpoint_bad_answer") from error


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The trusted authorities: those of SSL_CERT_FILE where the operator names some. Loading them takes a while."""
    return httpx.create_ssl_context()
