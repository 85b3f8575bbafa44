"""What the web may ask of the container engine. A request is read strictly, judged by an allow-list, and written anew:
nothing that the engine could read otherwise than we did goes through.

Go's JSON takes a field in any spelling and the last one of two; so a field counts here only in the one spelling of the
engine's documentation, once, with a value of its type, and what is sent holds these fields and no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

BODY_MAX, PARAMETERS_MAX = 65_536, 16
_ID = r"(?P<id>[0-9a-f]{12,64})"
_RUN = r"(?P<id>[0-9a-f]{64})"
_TARGET = re.compile(r"(?P<version>/v1\.[0-9]{1,2})?(?P<path>/[a-z0-9_/]+)(?:\?(?P<query>[\x21-\x22\x24-\x7e]*))?")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
# Each of them changes where a message ends, or what is spoken after it.
_UNWANTED = ("transfer-encoding", "expect", "te", "trailer")

Test = Callable[[Any], bool]


class Refused(Exception):
    """Not let through, and why."""


def _matching(pattern: str) -> Test:
    known = re.compile(pattern)
    return lambda value: isinstance(value, str) and known.fullmatch(value) is not None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int and 0 <= n < 10_000 for n in value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _unset(value: Any) -> bool:
    """What a client writes for something that it does not ask for."""
    return value is False or value == "" or value == []


_ANY = _matching(r".*")
_SWITCH = _matching(r"0|1|[Tt]rue|[Ff]alse")
_NUMBER = _matching(r"[0-9]{1,5}")
_MOMENT = _matching(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_LISTING = dict.fromkeys(("all", "limit", "size", "trunc_cmd", "since", "before", "filters"), _ANY)  # ours replaces it
_LOGS = {
    **dict.fromkeys(("stdout", "stderr", "timestamps", "follow"), _SWITCH),
    **dict.fromkeys(("since", "until"), _MOMENT),
    "tail": _matching(r"all|[0-9]{1,9}"),
}
_EXEC = {
    "Cmd": _texts,
    "Env": _texts,
    "User": _matching(r"[0-9a-z_:-]*"),
    "Container": _matching(r"[0-9a-f]*"),
    **dict.fromkeys(("Tty", "AttachStdin", "AttachStdout", "AttachStderr"), _flag),
    **dict.fromkeys(("Privileged", "Detach", "DetachKeys", "WorkingDir"), _unset),
}
_START = {"Tty": _flag, "ConsoleSize": _size, "Detach": _unset}


@dataclass(frozen=True)
class Kind:
    """One kind of request: its parameters and the fields of its body, each with the values that it may have."""

    name: str
    methods: tuple[str, ...]
    path: re.Pattern[str]
    query: Mapping[str, Test] = field(default_factory=dict)
    body: Mapping[str, Test] | None = None


KINDS = (
    Kind("about", ("GET", "HEAD"), re.compile(r"/(?:_ping|version|info)")),
    Kind("list", ("GET", "HEAD"), re.compile(r"/containers/json"), _LISTING),
    Kind("inspect", ("GET",), re.compile(rf"/containers/{_ID}/json")),
    Kind("top", ("GET",), re.compile(rf"/containers/{_ID}/top")),
    Kind("logs", ("GET",), re.compile(rf"/containers/{_ID}/logs"), _LOGS),
    Kind("stats", ("GET",), re.compile(rf"/containers/{_ID}/stats"), {"stream": _SWITCH, "one-shot": _SWITCH}),
    Kind("exec", ("POST",), re.compile(rf"/containers/{_ID}/exec"), body=_EXEC),
    Kind("start", ("POST",), re.compile(rf"/exec/{_RUN}/start"), body=_START),
    Kind("resize", ("POST",), re.compile(rf"/exec/{_RUN}/resize"), {"h": _NUMBER, "w": _NUMBER}),
    Kind("look", ("GET",), re.compile(rf"/exec/{_RUN}/json")),
)


@dataclass(frozen=True)
class Request:
    """A request of a known kind. ``id`` is that of the container or of the exec, empty where there is none."""

    kind: Kind
    method: str
    version: str
    path: str
    id: str
    query: dict[str, str]
    length: int

    @property
    def upgrades(self) -> bool:
        return self.kind.name == "start"

    def written(self, *, path: str, query: Mapping[str, str], body: bytes) -> bytes:
        """What the engine is sent."""
        asked = f"?{urlencode(query)}" if query else ""
        lines = [f"{self.method} {self.version}{path}{asked} HTTP/1.1", "Host: engine"]
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        lines += ["Connection: Upgrade", "Upgrade: tcp"] if self.upgrades else ["Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def parse(head: bytes) -> Request:
    """The request that ``head``, with its empty line, begins. Refused for one that two readers could read differently,
    and for one of no known kind."""
    first, *lines = _text(head.removesuffix(b"\r\n\r\n")).split("\r\n")
    method, target, protocol = [*first.split(" "), "", ""][:3]
    found = _TARGET.fullmatch(target)
    if protocol not in ("HTTP/1.1", "HTTP/1.0") or first.count(" ") != 2 or not found:
        raise Refused("the request line is not understood")
    kind, id = _kind_of(method, found["path"])
    headers = _headers(lines)
    _check_upgrade(kind, headers)
    query = _known(kind.query, _pairs(parameters(found["query"] or "")), "parameter")
    return Request(kind, method, found["version"] or "", found["path"], id, query, _length(kind, headers))


def parameters(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string, as they stand."""
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        raise Refused("the parameters are not understood") from error


def fields(request: Request, body: bytes) -> dict[str, Any]:
    """The fields of the request's body that say something; Refused unless all are known and well."""
    if not body:
        return {}
    try:
        wanted = json.loads(_text(body, "utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("the body is no JSON") from error
    if not isinstance(wanted, dict):
        raise Refused("the body is no object")
    return _known(request.kind.body or {}, wanted, "field")


def _known(tests: Mapping[str, Test], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What is given and not null, all of it known."""
    for name, value in given.items():
        if name not in tests:
            raise Refused(f"the {what} {name[:40]!r} is not known")
        if value is not None and not tests[name](value):
            raise Refused(f"the {what} {name} is not let through with this value")
    return {name: value for name, value in given.items() if value is not None}


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once = dict(pairs)
    if len(once) != len(pairs):
        raise Refused("a name stands twice")
    return once


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _text(data: bytes, encoding: str = "ascii") -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Refused(f"there is something else than {encoding}") from error


def _kind_of(method: str, path: str) -> tuple[Kind, str]:
    for kind in KINDS:
        if method in kind.methods and (found := kind.path.fullmatch(path)):
            return kind, found.groupdict().get("id") or ""
    raise Refused(f"{method[:10]} {path[:80]} is not let through")


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in headers:
            raise Refused("a header is odd or stands twice")
        headers[name.lower()] = value.strip()
    for name in _UNWANTED:
        if name in headers:
            raise Refused(f"{name} is not let through")
    return headers


def _check_upgrade(kind: Kind, headers: Mapping[str, str]) -> None:
    if headers.get("upgrade", "tcp") != "tcp" or ("upgrade" in headers and kind.name != "start"):
        raise Refused("the connection becomes nothing else than the stream of an exec")


def _length(kind: Kind, headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > BODY_MAX:
        raise Refused("the body is too large")
    if int(length) and kind.body is None:
        raise Refused("a body is not let through here")
    return int(length)
