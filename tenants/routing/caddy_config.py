"""Caddy's configuration as pure functions from checked values to JSON.

Caddy expands ``{placeholders}`` in many fields, so no string of a user gets into any: hosts are made of a checked
slug and the domain, dial targets of integers, paths follow a narrow pattern, the rest are constants of this module.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenants.routing.agent_answers import caddy_cleaning, caddy_proxy_options
from tenants.routing.base import DOOR_PATHS, MAX_WEBHOOK_BODY, Route, SyncResult
from zcplatform.lib.errors import InvalidField, Misconfigured
from zcplatform.lib.slugs import check_slug

Json = dict[str, Any]

MAX_BODY = 1_048_576
MAX_HEADERS = 65_536
TENANTS = 2
"""The position of the tenants' route in the server: after the names' and the platform's, before the fallback."""

_INSTANCE = re.compile(r"[a-z0-9]{8,32}")
_PUBLIC_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+(?:/\*)?")
# Matched against the decoded path. Caddy compares cleaned paths but forwards them as they came, so a path that
# cleaning would change could pass as one thing here and be another to the agent.
_ODD_PATH = r"//|\\|(?:^|/)\.{1,2}(?:/|$)"
_ERRORS = {
    413: ("too_large", "The request is too large."),
    502: ("bad_upstream", "What is behind this address did not answer as it should."),
    503: ("dependency_down", "What is behind this address does not answer."),
    504: ("dependency_timeout", "What is behind this address did not answer in time."),
}

# Of a body shorter than this Caddy reads by itself what was left unread (256 KB at most).
_LONG = "^[0-9]{6,}$"
# On HTTP/2 and 3 a stream is a request and ends alone; there the header would end the other streams' connection.
_HTTP1 = {"not": [{"protocol": "http/2+"}]}


@dataclass(frozen=True)
class Site:
    """What the server is built from beside the tenants. ``platform`` is the web's host:port;
    ``stream_close_delay_s`` is in seconds, ``max_chat_body`` in bytes."""

    instance: str
    domain: str
    platform_hosts: tuple[str, ...]
    platform: str
    listen: str
    listen_port: int
    https: bool
    stream_close_delay_s: int
    max_chat_body: int

    def __post_init__(self) -> None:
        if not _INSTANCE.fullmatch(self.instance):
            raise Misconfigured("There is no installation id yet; run: zcplatform bootstrap", type="no_instance")

    @property
    def server_name(self) -> str:
        """The installation's id is in it: two of them on one Caddy never see each other's routes."""
        return f"zcplatform-{self.instance}"


def build_server(site: Site, routes: Sequence[Route]) -> Json:
    """The whole HTTP server: the platform first, then the tenants, then 404. InvalidField for a hostile route."""
    server: Json = {
        "listen": [site.listen],
        "read_header_timeout": "10s",
        "read_timeout": "60s",
        "idle_timeout": "2m",
        "max_header_bytes": MAX_HEADERS,
        "routes": [_one_spelling(), _platform(site), _tenants(site, routes), _nobody()],
        "errors": {"routes": _errors()},
    }
    if site.https:
        server["automatic_https"] = {"disable_redirects": site.listen_port != 443}
    else:
        server["automatic_https"] = {"disable": True}
        server["protocols"] = ["h1"]
    return server


def build_route(site: Site, route: Route) -> Json:
    """One tenant's route, found by its ``@id``: its public paths, and 404. InvalidField when any value is not what
    it must be."""
    paths = [_public_path(path) for path in route.public_paths]
    to_agent = _proxy(site, f"127.0.0.1:{_port(route.port):d}", MAX_WEBHOOK_BODY, **caddy_proxy_options())
    public = {"match": [{"path": paths}], "handle": to_agent}
    inner = [*([public] if paths else []), {"handle": [_answer(404, "not_found", "Not found.")]}]
    return {
        "@id": f"zc-{_public_id(route.tenant)}",
        "match": [{"host": [_host(site, route)]}],
        "handle": [{"handler": "subroute", "routes": [{**part, "terminal": True} for part in inner]}],
        "terminal": True,
    }


def compare(found: Json | None, wanted: Json) -> SyncResult:
    """What has to change, tenant by tenant, for ``found`` to become ``wanted``; empty when they are equal."""
    before, after = _by_id(tenant_routes(found)), _by_id(tenant_routes(wanted))
    result = SyncResult(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key in after.keys() & before.keys() if after[key] != before[key])),
        removed=tuple(sorted(before.keys() - after.keys())),
        platform=found is None or _frame(found) != _frame(wanted),
    )
    # Equal parts in another order, or a route twice: nothing that names a tenant, and still not as it should be.
    return result if result or found == wanted else SyncResult(platform=True)


def tenant_routes(server: Json | None) -> list[Json]:
    """The tenants' routes in ``server``; empty when they are not where they should be."""
    try:
        routes = server["routes"][TENANTS]["handle"][-1]["routes"] if server else []
    except (KeyError, IndexError, TypeError):
        return []
    return routes if isinstance(routes, list) else []


def _one_spelling() -> Json:
    """``acme.example.com.`` is the same host as without its last dot, and a client may send either; Caddy itself
    compares texts. Further names in the matchers would do it too, but it would ask for a certificate of each."""
    return {
        "match": [
            {"header_regexp": {"Host": {"name": "dot", "pattern": r"^([A-Za-z0-9.-]*[A-Za-z0-9-])\.(:[0-9]+)?$"}}}
        ],
        "handle": [
            {
                "handler": "headers",
                "request": {"set": {"Host": ["{http.regexp.dot.1}{http.regexp.dot.2}"]}},
            }
        ],
    }


def _platform(site: Site) -> Json:
    return {
        "@id": f"zc-platform-{site.instance}",
        "match": [{"host": list(site.platform_hosts)}],
        "handle": [_clean(), _ending(), *_proxy(site, site.platform, MAX_BODY)],
        "terminal": True,
    }


def _tenants(site: Site, routes: Sequence[Route]) -> Json:
    built = [build_route(site, route) for route in sorted(routes, key=lambda route: route.tenant)]
    hosts = sorted(host for route in built for host in route["match"][0]["host"])
    if len(set(hosts)) != len(hosts) or len({route["@id"] for route in built}) != len(built):
        raise InvalidField("Two routes bear the same tenant or the same host.", field="routes")
    odd = {
        "match": [{"vars_regexp": {"{http.request.uri.path}": {"pattern": _ODD_PATH}}}],
        "handle": [_answer(404, "not_found", "Not found.")],
    }
    # One way to the door for all of them: a proxy in each tenant's route would double what a change costs.
    door = {"match": [{"path": list(DOOR_PATHS)}], "handle": _proxy(site, site.platform, site.max_chat_body)}
    common = [{**odd, "terminal": True}, {**door, "terminal": True}]
    return {
        "@id": f"zc-tenants-{site.instance}",
        # Caddy obtains certificates for the names it finds in a server's own routes, not in those inside them.
        "match": [{"host": hosts if site.https else [f"*.{site.domain}"]}],
        "handle": [
            _clean(),
            _ending(),
            {"handler": "subroute", "routes": common},
            caddy_cleaning(),
            {"handler": "subroute", "routes": built},
        ],
    }


def _proxy(site: Site, dial: str, max_body: int, **options: Any) -> list[Json]:
    return [
        {"handler": "request_body", "max_size": max_body},
        {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": dial}],
            "flush_interval": -1,
            "stream_close_delay": f"{site.stream_close_delay_s:d}s",
            # An idle connection is given up before the other side closes it (we after 15 s, Node and uvicorn after 5):
            # a POST that meets the closing can't be sent again, and would be a 502 for the client.
            "transport": {"protocol": "http", "dial_timeout": "2s", "keep_alive": {"idle_timeout": "2s"}},
            **options,
        },
    ]


def _ending() -> Json:
    """Around everything that answers: an error for a request with a body ends the connection, and whatever is answered
    to a long one. Whoever answered may not have read the body, and nobody may take what is left of it for the next
    request."""
    sized, unsized = {"header": {"Content-Length": ["*"]}}, {"header": {"Transfer-Encoding": ["*"]}}
    long = {"header_regexp": {"Content-Length": {"pattern": _LONG}}}
    return {
        "handler": "subroute",
        "routes": [
            {"match": [{**one, **_HTTP1} for one in (sized, unsized)], "handle": [_closing(4, 5)]},
            {"match": [{**one, **_HTTP1} for one in (long, unsized)], "handle": [_closing(*range(2, 10))]},
        ],
    }


def _closing(*classes: int) -> Json:
    response = {"require": {"status_code": list(classes)}, "deferred": True, "set": {"Connection": ["close"]}}
    return {"handler": "headers", "response": response}


def _clean() -> Json:
    """X-Forwarded-* and names with an underscore are Caddy's own business: it replaces or drops them."""
    return {
        "handler": "headers",
        "request": {"delete": ["Forwarded", "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip"]},
    }


def _answer(status: int | str, type: str, message: str) -> Json:
    error = {"type": type, "message": message, "details": {}, "request_id": "{http.request.uuid}"}
    return {
        "handler": "static_response",
        "status_code": status,
        "headers": {"Content-Type": ["application/json"], "Cache-Control": ["no-store"]},
        "body": json.dumps({"error": error}),
    }


def _nobody() -> Json:
    return {"handle": [_ending(), _answer(404, "not_found", "Not found.")]}


def _errors() -> list[Json]:
    """Caddy's own errors end the connection, whatever the request was: 413 leaves the rest of the body unread."""
    close = {"handler": "headers", "response": {"set": {"Connection": ["close"]}}}
    other = {"handle": [_answer("{http.error.status_code}", "error", "The request failed.")], "terminal": True}
    return [
        {"match": [_HTTP1], "handle": [close]},
        *(_error_route(status, *text) for status, text in _ERRORS.items()),
        other,
    ]


def _error_route(status: int, type: str, message: str) -> Json:
    return {
        "match": [{"vars": {"{http.error.status_code}": [str(status)]}}],
        "handle": [_answer(status, type, message)],
        "terminal": True,
    }


def _frame(server: Json) -> Json:
    """``server`` without what differs from tenant to tenant."""
    routes = server.get("routes")
    if not isinstance(routes, list) or len(routes) <= TENANTS or not isinstance(routes[TENANTS], dict):
        return server
    handle = routes[TENANTS].get("handle")
    bare = {**routes[TENANTS], "match": None, "handle": handle[:-1] if isinstance(handle, list) else handle}
    return {**server, "routes": [*routes[:TENANTS], bare, *routes[TENANTS + 1 :]]}


def _by_id(routes: Iterable[Any]) -> Mapping[str, Any]:
    """Routes by tenant; one that bears no id of ours is named by its position."""
    named = enumerate(routes)
    return {
        str(route.get("@id", f"unnamed-{n}") if isinstance(route, dict) else f"unnamed-{n}").removeprefix("zc-"): route
        for n, route in named
    }


def _host(site: Site, route: Route) -> str:
    return f"{check_slug(route.slug)}.{site.domain}"


def _public_id(value: str) -> str:
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise InvalidField("A route names its tenant by its public id.", field="tenant")


def _port(value: int) -> int:
    if type(value) is not int or not 1_024 <= value <= 65_535:
        raise InvalidField("A route leads to an unprivileged port.", field="port")
    return value


def _public_path(path: str) -> str:
    if not isinstance(path, str) or len(path) > 200 or not _PUBLIC_PATH.fullmatch(path):
        raise InvalidField("A public path is exact, or a prefix that ends in /*.", field="public_paths")
    return path
