"""The one door to Caddy: its admin API over a unix socket."""

from __future__ import annotations

import errno
import json
import mmap
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from zcplatform.lib.errors import BadUpstream, DependencyDown, DependencyTimeout

TIMEOUT_S = 5.0
READ_TRIES = 10
Json = dict[str, Any]

_VERSION = re.compile(rb"\tgithub\.com/caddyserver/caddy/v2\tv(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)[\t\n]")


class Overtaken(Exception):
    """Somebody else changed the configuration between our reading and our writing, or may have."""


class BrokenOff(Overtaken):
    """The connection was cut: each change replaces Caddy's admin server, and calls still in its queue are lost."""


class CaddyAdmin:
    """Speaks HTTP to the admin socket; every call connects anew, since each change replaces Caddy's admin server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_server(self, name: str) -> tuple[Json | None, str]:
        """The server ``name`` and its ETag; None when there is none, whatever else Caddy holds."""
        answer = self._read(f"/config/apps/http/servers/{name}")
        # A missing parent is 400 "invalid traversal path"; a missing server in an existing parent is 200 null.
        if answer.status_code == 400:
            return None, ""
        found = self._body(answer)
        return (found, answer.headers.get("ETag", "")) if isinstance(found, dict) else (None, "")

    def write_server(self, name: str, server: Json, etag: str) -> None:
        """Replace the server that was read with ``etag``, or create it when that is empty.

        Overtaken when it is no longer what was read; BadUpstream ``router_refused`` when Caddy won't have it.
        """
        body = json.dumps(server).encode()
        headers = {"Content-Type": "application/json", **({"If-Match": etag} if etag else {})}
        # PUT creates and answers 409 when the key exists, PATCH replaces and answers 404 when it does not.
        with _client(self.path) as client:
            method, path = "PATCH" if etag else "PUT", f"/config/apps/http/servers/{name}"
            answer = client.request(method, path, content=body, headers=headers)
        if answer.status_code in (404, 409, 412):
            raise Overtaken
        if answer.status_code != 200:
            raise BadUpstream(
                f"Caddy refused the configuration: {_reason(answer)}", type="router_refused", status=answer.status_code
            )

    def ping(self) -> None:
        """DependencyDown when nothing answers, BadUpstream when it is not Caddy's admin API."""
        self._body(self._read("/config/admin"))

    def listens(self) -> bool:
        """Whether anything takes a connection there, whatever it may answer."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(TIMEOUT_S)
            return peer.connect_ex(str(self.path)) not in (errno.ENOENT, errno.ECONNREFUSED)

    def version(self) -> str:
        """The version of the program at the other end of the socket; empty when that can't be told.

        Caddy does not tell it over the API. The kernel names the process, and a Go binary carries the versions
        of its modules: it is read, never run.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(TIMEOUT_S)
                peer.connect(str(self.path))
                pid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            with (
                Path(f"/proc/{pid}/exe").open("rb") as file,
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as binary,
            ):
                found = _VERSION.search(binary)
                return found[1].decode() if found else ""
        except (OSError, ValueError):
            return ""

    def _read(self, path: str) -> httpx.Response:
        for _ in range(READ_TRIES):
            with suppress(BrokenOff), _client(self.path) as client:
                return client.get(path)
        raise DependencyDown(f"Caddy cut {READ_TRIES} calls in a row.", type="router_down")

    @staticmethod
    def _body(answer: httpx.Response) -> Any:
        if answer.status_code != 200:
            raise BadUpstream(f"Caddy's admin API answered {answer.status_code}: {_reason(answer)}", type="bad_router")
        try:
            return answer.json()
        except ValueError as error:
            raise BadUpstream("What answers at Caddy's admin socket is not Caddy.", type="bad_router") from error


@contextmanager
def _client(path: Path) -> Iterator[httpx.Client]:
    # verify=False only spares the loading of certificates: a unix socket has no TLS.
    transport = httpx.HTTPTransport(uds=str(path), verify=False)
    try:
        with httpx.Client(transport=transport, base_url="http://caddy", timeout=TIMEOUT_S, trust_env=False) as client:
            yield client
    except httpx.ConnectError as error:
        raise DependencyDown(f"Caddy does not answer at {path}.", type="router_down") from error
    except httpx.TimeoutException as error:
        raise DependencyTimeout(f"Caddy did not answer within {TIMEOUT_S:g} s.", type="router_timeout") from error
    except httpx.TransportError as error:
        raise BrokenOff from error


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
