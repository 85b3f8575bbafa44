"""What an agent asks the proxy for: ``CONNECT host:port``, or a plain request with the whole address. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_HEAD = 16_384
_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8000}) HTTP/1\.[01]")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"host", b"te", b"upgrade")


class NotARequest(ValueError):
    """What came is not a request that a proxy can serve."""


@dataclass(frozen=True)
class Request:
    """``forward`` is what goes to the host first: nothing for a tunnel, the request in its own words otherwise."""

    host: str
    port: int
    forward: bytes

    @property
    def is_tunnel(self) -> bool:
        return not self.forward


def parse(head: bytes) -> Request:
    """The request line and headers with the empty line; NotARequest for anything else."""
    line, _, fields = head.partition(b"\r\n")
    found = _LINE.fullmatch(line)
    if not found:
        raise NotARequest("no request line")
    method, target = found[1], found[2].decode("ascii")
    if method == b"CONNECT":
        return Request(*_authority(target), b"")
    try:
        parts = urlsplit(target)
        port = 80 if parts.port is None else parts.port
        if parts.scheme != "http" or "@" in parts.netloc:
            raise NotARequest("neither CONNECT nor an http:// address")
    except ValueError as error:
        raise NotARequest("no address") from error
    host, port = _authority(f"{parts.hostname or ''}:{port}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Request(host, port, _own_words(method, path, parts.netloc, fields))


def _authority(text: str) -> tuple[str, int]:
    host, _, port = text.lower().rpartition(":")
    host = host.removesuffix(".")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65_535:
        raise NotARequest("no host and port")
    return host.strip("[]"), int(port)


def _own_words(method: bytes, path: str, authority: str, fields: bytes) -> bytes:
    """The request as its host expects it; one per connection, so that no second one can ask for another host."""
    kept = [line for line in fields.split(b"\r\n") if line and line.partition(b":")[0].lower() not in _HOP_BY_HOP]
    start = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: " + authority.encode(), b"Connection: close"]
    return b"\r\n".join([*start, *kept, b"", b""])
