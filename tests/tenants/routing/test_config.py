"""The builder of Caddy's configuration: what it makes, and what it refuses."""

import json
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.routing.base import Route
from tenants.routing.caddy_config import Site, build_route, build_server, compare, tenant_routes
from tests.caddy import make_route
from zcplatform import gunicorn_conf
from zcplatform.lib.errors import InvalidField, Misconfigured, ZCError

SITE = Site(
    "abcdef0123",
    "example.test",
    ("api.example.test", "example.test"),
    "127.0.0.1:8080",
    ":8443",
    8443,
    False,
    3600,
    20_971_520,
)


def strings(value):
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def parts(value):
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(part)


def dials(value):
    if isinstance(value, dict):
        if "dial" in value:
            yield value["dial"]
        for part in value.values():
            yield from dials(part)
    elif isinstance(value, list):
        for part in value:
            yield from dials(part)


HOSTILE_SLUGS = [
    "acme\n", "*", "a.b", "acme.evil.com", "127.0.0.1", "a/b", "a%2e", "{env.SECRET}", "{http.request.host}",
    "api", "www", "admin", "_acme-challenge", "localhost", "xn--80ak6aa92e", "a--b", "-abc", "abc-", "a" * 31,
    "ACME", "аcme", "acme\0", "", None, 7, 'x"y', "x\\y", "</script>",
]  # fmt: skip
SOMEBODY = uuid.uuid5(uuid.NAMESPACE_DNS, "somebody")  # the same in every worker, which compare their tests
HOSTILE_PORTS = [0, -1, 22, 80, 65_536, True, 20_001.0, "20001", "unix//run/docker.sock", "169.254.169.254:80", None]
HOSTILE_PATHS = [
    "", "/", "ws", "*", "/*", "/ws*", "/*/x", "/{env.SECRET}", "/a b", "/a\n", "/../metrics", "/a/..", "/./a",
    "//a", "/a//b", "/a/", "/%2e", "/a?b", "/a#b", "/a\\b", None, 7, "/" + "a" * 300,
]  # fmt: skip


@pytest.mark.parametrize("slug", HOSTILE_SLUGS)
def test_d1_d2_d4_hostile_slugs_are_refused(slug):
    with pytest.raises(InvalidField):
        build_route(SITE, Route(str(uuid.uuid4()), slug, 20_001, ()))


@pytest.mark.parametrize("port", HOSTILE_PORTS)
def test_d7_a_dial_target_is_made_of_an_integer_or_refused(port):
    with pytest.raises(InvalidField):
        build_route(SITE, Route(str(uuid.uuid4()), "acme", port, ()))


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_d3_hostile_public_paths_are_refused(path):
    with pytest.raises(InvalidField):
        build_route(SITE, Route(str(uuid.uuid4()), "acme", 20_001, (path,)))


@pytest.mark.parametrize("tenant", ["", "x", "{env.SECRET}", str(SOMEBODY).upper(), SOMEBODY.hex, None, 1])
def test_d3_a_tenant_is_named_by_its_public_id_or_refused(tenant):
    with pytest.raises(InvalidField):
        build_route(SITE, Route(tenant, "acme", 20_001, ()))


anything = st.one_of(
    st.text(),
    st.text(string.ascii_lowercase + string.digits + "-/.{}*%", max_size=12),
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
)


@given(
    tenant=st.one_of(anything, st.uuids().map(str)),
    slug=anything,
    port=st.one_of(anything, st.integers(1_024, 65_535)),
    paths=st.one_of(st.lists(anything, max_size=3), st.just(["/ws", "/hook/*"])),
)
def test_d3_d7_d8_no_value_of_a_route_gets_into_a_field_that_caddy_expands(tenant, slug, port, paths):
    try:
        built = build_route(SITE, Route(tenant, slug, port, tuple(paths)))
    except InvalidField:
        return
    # Accepted: then every string is a constant or made of harmless characters, and every target is the loopback.
    ours = set(strings(build_route(SITE, make_route("acme"))))
    plain = set(string.ascii_letters + string.digits + "-._~/*:")
    assert all(set(text) <= plain for text in set(strings(built)) - ours)
    assert set(dials(built)) <= {f"127.0.0.1:{int(port)}"}
    assert built["match"] == [{"host": [f"{slug}.example.test"]}]
    json.dumps(built)


def test_d8_a_display_name_is_nowhere_in_a_route():
    assert set(Route.__dataclass_fields__) == {"tenant", "slug", "port", "public_paths"}


def test_d5_one_host_per_route():
    server = build_server(SITE, [make_route(f"tenant-{n}") for n in range(120)])
    assert [len(route["match"][0]["host"]) for route in tenant_routes(server)] == [1] * 120


def test_d11_the_platform_stands_first_and_the_fallback_last():
    server = build_server(SITE, [make_route("acme")])
    _spelling, platform, tenants, fallback = server["routes"]
    assert platform["@id"] == "zc-platform-abcdef0123"
    assert platform["match"] == [{"host": ["api.example.test", "example.test"]}]
    assert tenants["@id"] == "zc-tenants-abcdef0123"
    assert "match" not in fallback
    assert fallback["handle"][-1]["status_code"] == 404


def test_a_route_without_public_paths_leads_nowhere_and_the_door_is_common_to_all():
    assert set(dials(build_route(SITE, make_route("acme", public_paths=())))) == set()
    assert set(dials(build_server(SITE, [make_route("acme", public_paths=())]))) == {"127.0.0.1:8080"}


def test_two_routes_with_one_host_or_one_tenant_are_refused():
    one = make_route("acme")
    for twin in (Route(str(uuid.uuid4()), "acme", 20_002, ()), Route(one.tenant, "other", 20_002, ())):
        with pytest.raises(InvalidField):
            build_server(SITE, [one, twin])


def test_without_an_installation_id_nothing_is_built():
    with pytest.raises(Misconfigured):
        Site("", "example.test", (), "127.0.0.1:8080", ":8443", 8443, False, 3600, 20_971_520)


def test_the_order_of_the_rows_does_not_matter():
    routes = [make_route(f"tenant-{n}") for n in range(5)]
    assert build_server(SITE, routes) == build_server(SITE, routes[::-1])


def test_https_names_every_host_for_its_certificate():
    https = Site("abcdef0123", "example.test", ("example.test",), "127.0.0.1:8080", ":443", 443, True, 3600, 20_971_520)
    server = build_server(https, [make_route("acme"), make_route("beta")])
    assert server["routes"][2]["match"] == [{"host": ["acme.example.test", "beta.example.test"]}]
    assert "disable" not in server["automatic_https"]
    assert build_server(https, [])["routes"][2]["match"] == [{"host": []}]


class TestCompare:
    def test_equal_is_empty(self):
        server = build_server(SITE, [make_route("acme")])
        assert not compare(server, json.loads(json.dumps(server)))

    def test_absent_is_everything(self):
        result = compare(None, build_server(SITE, [make_route("acme")]))
        assert result.platform
        assert result.added == (make_route("acme").tenant,)

    def test_each_kind_of_change_is_named(self):
        before = build_server(SITE, [make_route("stays"), make_route("moves"), make_route("goes")])
        after = build_server(SITE, [make_route("stays"), make_route("moves", 20_002), make_route("comes")])
        result = compare(before, after)
        assert result.added == (make_route("comes").tenant,)
        assert result.changed == (make_route("moves").tenant,)
        assert result.removed == (make_route("goes").tenant,)
        assert not result.platform

    @pytest.mark.parametrize(
        "harm",
        [
            lambda server: server["routes"].reverse(),
            lambda server: server["routes"].pop(0),
            lambda server: server["routes"].insert(0, {"handle": []}),
            lambda server: server.update(listen=[":1"]),
            lambda server: server.pop("errors"),
            lambda server: server["routes"][2].pop("match"),
            lambda server: server["routes"][2]["handle"].pop(0),
            lambda server: server["routes"][2].update(handle=None),
            lambda server: server.update(routes=None),
            lambda server: server["routes"][2]["handle"][-1]["routes"].reverse(),
            lambda server: server["routes"][2]["handle"][-1]["routes"].append({"handle": []}),
            lambda server: server["routes"][2]["handle"][-1].update(routes="x"),
            lambda server: server["routes"][2]["handle"][-1].update(routes=["x"]),
        ],
    )
    def test_d11_whatever_is_done_to_the_server_is_seen(self, harm):
        wanted = build_server(SITE, [make_route("acme"), make_route("beta")])
        found = json.loads(json.dumps(wanted))
        harm(found)
        assert compare(found, wanted)


def test_every_refusal_has_a_stable_type():
    with pytest.raises(ZCError) as refusal:
        build_route(SITE, make_route("api"))
    assert refusal.value.type == "reserved_slug"


def test_caddy_gives_up_an_idle_connection_before_the_web_closes_it():
    """The other way round, a POST that meets the closing is a 502, now and then, under load."""
    proxies = [part for part in parts(build_server(SITE, [make_route("acme", 20_001)])) if "upstreams" in part]
    assert len(proxies) >= 2
    assert {proxy["transport"]["keep_alive"]["idle_timeout"] for proxy in proxies} == {"2s"}
    assert gunicorn_conf.keepalive >= 5


def test_every_proxy_to_an_agent_takes_the_cookies_away_in_both_directions():
    agents = [part for part in parts(build_route(SITE, make_route("acme"))) if "upstreams" in part]
    assert agents
    for proxy in agents:
        assert "Cookie" in proxy["headers"]["request"]["delete"]
        assert proxy["headers"]["response"] == {"delete": ["*"]}
