"""Group H: what the platform calls outside, with real servers on the loopback and a real resolver unless a test
needs a name of its own."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
from datetime import timedelta
from functools import partial
from ipaddress import ip_network

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.outside import Handler, server, url
from zcplatform.lib import addresses, clock, env, http, outside
from zcplatform.lib.errors import BadUpstream, DependencyDown, DependencyTimeout, InvalidField

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def loopback(settings):
    """As an operator allows who has a model on the same host."""
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, LOOPBACK


@pytest.fixture
def names(monkeypatch):
    """Answers of the resolver for names of the test: a list that is used up, or one that stays."""
    answers, asked, real = {}, [], socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        host = host.decode() if isinstance(host, bytes) else host
        if host not in answers:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        addresses = answers[host].pop(0) if isinstance(answers[host][0], list) else answers[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    answers["asked"] = asked
    return answers


def refused(call, *args, **kwargs):
    with pytest.raises(InvalidField) as error:
        call(*args, **kwargs)
    return error.value.type


def test_an_answer_comes_whole_whatever_its_status(loopback):
    with server(lambda h: h.answer(418, b'{"a": 1}', X_Thing="yes")) as made:
        reply = http.request("POST", url(made), headers={"Authorization": "Bearer x"}, body={"b": 2})
    assert (reply.status, reply.ok, reply.json(), reply.headers["x-thing"]) == (418, False, {"a": 1}, "yes")
    sent = made.seen[0]
    assert sent.headers["Authorization"] == "Bearer x"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["Host"] == f"127.0.0.1:{made.server_address[1]}"


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0", "[::1]"])
def test_h1_every_spelling_of_the_loopback_is_refused(settings, host):
    settings.ALLOW_HTTP_ENDPOINTS = True
    with server() as made:
        try:
            assert refused(http.request, "GET", url(made, host)) == outside.REFUSED
        except DependencyDown:  # a resolver that does not know this form
            assert host not in ("127.0.0.1", "[::1]")
    assert made.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        *["::ffff:169.254.169.254", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::"],
        *["2001:0:4136:e378:8000:63bf:3fff:fdd2", "::", "::7f00:1", "::1", "fe80::1", "fe80::1%lo", "fc00::1"],
        *["fec0::1", "ff02::1", "fd00:ec2::254", "2001:db8::1", "100.64.0.1", "224.0.0.1", "0.0.0.0", "10.1.2.3"],
        *["127.0.0.1", "169.254.169.254", "169.254.1.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
        *["192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255"],
        *["2130706433", "127.1", "example.com", ""],
    ],
)
def test_h2_what_is_not_a_public_address_is_refused(address):
    assert not outside.permitted(address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111"])
def test_public_addresses_are_permitted(address):
    assert outside.permitted(address, 443)


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1", "fd00:ec2::254"])
def test_h2_metadata_and_disguises_stay_refused_whatever_the_operator_lists(settings, address):
    settings.ENDPOINT_NETWORKS = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert not outside.permitted(address, 443)
    assert outside.permitted("10.1.2.3", 443)


def test_h3_a_name_is_resolved_once_and_the_judged_address_is_the_one_connected_to(loopback, names):
    with server() as public, server() as private:
        names["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
        http.request("GET", url(public, "rebind.test"))
    assert (names["asked"], public.connections, private.connections) == (["rebind.test"], 1, 0)
    assert public.seen[0].headers["Host"].startswith("rebind.test:")


def test_h3_a_public_name_with_a_private_address_is_refused(settings, names):
    settings.ALLOW_HTTP_ENDPOINTS = True
    names["inside.test"] = ["127.0.0.1"]
    with server() as made:
        assert refused(http.request, "GET", url(made, "inside.test")) == outside.REFUSED
    assert made.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_h4_a_redirect_is_an_answer_and_is_not_followed(loopback, status):
    with server() as target, server(lambda h: h.answer(status, Location=url(target))) as made:
        assert http.request("GET", url(made), headers={"Authorization": "Bearer x"}).status == status
    assert target.connections == 0


@pytest.mark.parametrize(
    "text",
    [
        *["file:///etc/passwd", "gopher://example.com/", "unix:/run/x.sock", "ftp://example.com/", "//example.com/"],
        *[
            "https://user@example.com/",
            "https://a:b@example.com/",
            "https://example.com\r\nX: y",
            "https://ex ample.com",
        ],
        *["https://example.com/\r\nHost: b", "https://example.com/#x", "https://", "https:///x", "example.com"],
        *["https://exämple.com/", "https://example.com:0/", "https://example.com:99999/", "https://[::1", ""],
        *["http://example.com/", "https://example.com\\@127.0.0.1/", "https://" + "a" * 2_000],
    ],
)
def test_h5_other_schemes_user_names_line_breaks_and_plain_http_are_refused(settings, text):
    settings.ALLOW_HTTP_ENDPOINTS = False
    assert refused(http.request, "GET", text) == outside.REFUSED


@pytest.mark.parametrize("header", [{"X-A": "b\r\nX-C: d"}, {"X-A\r\nX-C": "d"}, {"X-A": "ä"}, {"X-A": "\0"}])
def test_h5_a_header_can_not_end_its_line(loopback, header):
    with server() as made:
        assert refused(http.request, "GET", url(made), headers=header) == outside.REFUSED
    assert made.connections == 0


def test_h8_an_answer_over_the_cap_is_refused(loopback):
    with server(lambda h: h.answer(200, b"x" * 2_000)) as made:
        assert len(http.request("GET", url(made), max_bytes=2_000).content) == 2_000
        with pytest.raises(BadUpstream) as error:
            http.request("GET", url(made), max_bytes=1_999)
    assert error.value.type == "endpoint_too_large"


def test_h8_the_cap_holds_for_what_a_packed_answer_unpacks_to(loopback):
    bomb = gzip.compress(b"\0" * 20_000_000)
    assert len(bomb) < 30_000
    with server(lambda h: h.answer(200, bomb, Content_Encoding="gzip")) as made, pytest.raises(BadUpstream) as error:
        http.request("GET", url(made))
    assert error.value.type == "endpoint_too_large"


def test_a_packed_answer_is_unpacked_and_a_broken_or_foreign_one_refused(loopback):
    packed = gzip.compress(b'{"a": 1}')
    with server(lambda h: h.answer(200, packed, Content_Encoding="gzip")) as made:
        assert http.request("GET", url(made)).json() == {"a": 1}
    for body, encoding in ((b"no gzip", "gzip"), (packed, "br")):
        script = partial(Handler.answer, status=200, body=body, Content_Encoding=encoding)
        with server(script) as made, pytest.raises(BadUpstream):
            http.request("GET", url(made))


def drip(part):
    """Send a byte now and then, for ever, in the head or in the body of the answer."""

    def script(handler):
        if part == "body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        stop = threading.Event()
        while not stop.wait(0.05):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    return script


@pytest.mark.parametrize("part", ["head", "body"])
def test_h8_a_slow_drip_ends_at_the_limit_for_the_whole(loopback, part):
    with server(drip(part)) as made, pytest.raises(DependencyTimeout) as error:
        http.request("GET", url(made), total_s=0.5)
    assert error.value.type == "endpoint_timeout"


def test_a_resolver_that_hangs_ends_at_the_limit(loopback, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(30))
    try:
        with pytest.raises(DependencyTimeout):
            http.request("GET", "http://slow.test/", total_s=0.2)
    finally:
        release.set()


def test_faults_of_the_other_side_have_names_and_say_nothing_of_it(loopback):
    with server() as made:
        gone = url(made)
    with pytest.raises(DependencyDown) as error:
        http.request("GET", gone)
    assert (error.value.type, "127.0.0.1" in error.value.message) == ("endpoint_unreachable", False)
    with pytest.raises(DependencyDown):
        http.request("GET", "http://no-such-name.invalid/")
    with server(lambda h: h.wfile.write(b"garbage\r\n\r\n")) as made, pytest.raises(BadUpstream):
        http.request("GET", url(made))
    with server(lambda h: h.answer(200, b"{")) as made, pytest.raises(BadUpstream):
        http.request("GET", url(made)).json()


@pytest.mark.parametrize("host", ["zc.test", "ZC.test", "acme.zc.test", "api.zc.test.", "panel.test"])
def test_h9_the_platforms_own_names_are_refused(settings, host):
    settings.DOMAIN, settings.PUBLIC_HOST = "zc.test", "panel.test"
    assert refused(http.request, "GET", f"https://{host}/api/tenants") == outside.REFUSED
    assert outside.endpoint_of("https://notzc.test/").host == "notzc.test"


def test_h9_the_platforms_own_ports_are_refused_even_on_a_listed_network(settings, loopback):
    with server() as made:
        settings.PORT = made.server_address[1]
        assert refused(http.request, "GET", url(made)) == outside.REFUSED
        settings.PORT, settings.PORT_RANGE = 1, (made.server_address[1], made.server_address[1] + 1)
        assert refused(http.request, "GET", url(made)) == outside.REFUSED
    assert made.connections == 0


def test_h9_an_address_of_this_host_is_refused_although_it_is_public(monkeypatch):
    assert outside.permitted("8.8.8.8", 443)
    monkeypatch.setattr(addresses, "PRIVATE", ())  # so that 127.0.0.1 counts as public
    assert not outside.permitted("127.0.0.1", 443)


def test_the_environments_proxies_are_not_used(loopback, monkeypatch):
    with server() as proxy, server() as made:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, url(proxy))
        http.request("GET", url(made))
    assert (proxy.connections, made.connections) == (0, 1)


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """A certificate for model.test that the platform trusts."""
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "model.test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("model.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "cert.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    http._tls.cache_clear()
    yield file
    http._tls.cache_clear()


def test_the_certificate_is_checked_for_the_name_although_the_address_is_connected_to(loopback, names, authority):
    asked, context = [], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    context.sni_callback = lambda _, name, __: asked.append(name)
    names["model.test"] = names["other.test"] = ["127.0.0.1"]
    with server(tls=context) as made:
        assert http.request("GET", url(made, "model.test", scheme="https")).ok
        with pytest.raises(DependencyDown):
            http.request("GET", url(made, "other.test", scheme="https"))
    assert asked == ["model.test", "other.test"]
    assert made.seen[0].headers["Host"].startswith("model.test:")


async def _get(address):
    async with (
        aiohttp.ClientSession(connector=http.guarded_connector()) as session,
        session.get(address, allow_redirects=False) as response,
    ):
        return response.status


def test_asynchronous_clients_get_the_same_guard(settings):
    with server() as made:
        with pytest.raises(aiohttp.ClientConnectorError):
            asyncio.run(_get(url(made)))
        assert made.connections == 0
        settings.ENDPOINT_NETWORKS = LOOPBACK
        assert asyncio.run(_get(url(made))) == 200


def test_the_operators_networks_are_read_from_the_environment(monkeypatch):
    assert env.networks("ENDPOINT_NETWORKS") == ()
    monkeypatch.setenv("ZCPLATFORM_ENDPOINT_NETWORKS", "10.1.0.0/16, fd00:1::/32")
    assert env.networks("ENDPOINT_NETWORKS") == (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
    monkeypatch.setenv("ZCPLATFORM_ENDPOINT_NETWORKS", "10.1.0.1/16")
    with pytest.raises(Exception, match="networks like"):
        env.networks("ENDPOINT_NETWORKS")


@pytest.mark.parametrize("host", ["host.docker.internal", "[fe80::1%eth0]", "[fe80::1%25eth0]"])
def test_a_place_that_exists_only_elsewhere_is_refused_before_anything_is_asked(host):
    with pytest.raises(InvalidField, match="in your network"):
        http.request("GET", f"https://{host}/x")
