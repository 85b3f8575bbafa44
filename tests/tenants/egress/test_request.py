"""What the proxy reads: tunnels, plain requests, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.egress.request import NotARequest, Request, parse


def test_a_tunnel_forwards_nothing_of_its_own():
    assert parse(b"CONNECT API.Example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n") == Request("api.example.com", 443, b"")
    assert parse(b"CONNECT example.com.:443 HTTP/1.0\r\n\r\n").host == "example.com"
    assert parse(b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n").host == "::1"


def test_a_plain_request_is_said_in_its_hosts_own_words():
    head = (
        b"POST http://Api.example.com:8000/v1/chat?x=1 HTTP/1.1\r\nHost: other.example\r\nContent-Length: 2\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\n"
        b"Authorization: Bearer t\r\n\r\n"
    )
    request = parse(head)
    assert (request.host, request.port, request.is_tunnel) == ("api.example.com", 8000, False)
    assert request.forward == (
        b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: Api.example.com:8000\r\nConnection: close\r\nContent-Length: 2\r\n"
        b"Authorization: Bearer t\r\n\r\n"
    )


def test_a_plain_request_without_port_and_path():
    request = parse(b"GET http://example.com HTTP/1.1\r\n\r\n")
    assert (request.host, request.port) == ("example.com", 80)
    assert request.forward.startswith(b"GET / HTTP/1.1\r\nHost: example.com\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET https://example.com/ HTTP/1.1\r\n\r\n",
        b"GET ftp://example.com/ HTTP/1.1\r\n\r\n",
        b"GET http://user@example.com/ HTTP/1.1\r\n\r\n",
        b"GET http:///etc/passwd HTTP/1.1\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET http://example.com:99999/ HTTP/1.1\r\n\r\n",
        b"CONNECT example.com HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:0 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443x HTTP/1.1\r\n\r\n",
        b"CONNECT exa mple.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443/path HTTP/1.1\r\n\r\n",
        b"CONNECT user@example.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/2\r\n\r\n",
        b"CONNECT ex\xc3\xa4mple.com:443 HTTP/1.1\r\n\r\n",
        b"connect example.com:443 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ],
)
def test_anything_else_is_no_request(head):
    with pytest.raises(NotARequest):
        parse(head)


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_request_or_is_not(head):
    try:
        found = parse(head)
    except NotARequest:
        return
    assert 0 < found.port < 65_536
