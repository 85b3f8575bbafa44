"""What a request's body may cost the platform's own side: time and size, counted before Django sees any of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from contextlib import ExitStack, contextmanager

import pytest

from tenants import door_http
from tests.serving import serving
from zcplatform.asgi import application
from zcplatform.lib import arriving

CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"


@pytest.fixture
def web():
    with serving(application) as port:
        yield port


def head(*lines):
    given = ("POST /api/auth/otp/request HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines)
    return "\r\n".join([*given, "", ""]).encode()


def answer(line):
    """Status and error type; it waits until the server closes."""
    found = first_answer(line)
    assert line.recv(1) == b""
    return found


def first_answer(line):
    told = http.client.HTTPResponse(line)
    told.begin()
    return told.status, json.loads(told.read())["error"]["type"]


def test_m2_a_body_that_does_not_come_is_408_and_the_connection_ends(web, monkeypatch):
    monkeypatch.setattr(door_http, "BODY_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall(head("Content-Length: 100") + b"{")
        assert answer(line) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("host", "lines", "told"),
    [
        ("localhost", ["Content-Length: 2000000"], (413, "too_large")),
        ("localhost", ["Content-Length: 100", *(f"X-{n}: y" for n in range(210))], (400, "headers_too_large")),
        ("acme.localhost", ["Content-Length: 100"], (401, "unauthenticated")),
        ("acme.localhost", ["Transfer-Encoding: chunked"], (401, "unauthenticated")),
    ],
)
def test_m2_who_is_answered_before_the_body_is_read_can_t_hold_the_connection(web, settings, host, lines, told):
    settings.DOMAIN, settings.ROUTER = "localhost", "caddy"
    asked = [f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}", *lines, "", ""]
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall("\r\n".join(asked).encode())
        assert b"\r\nconnection: close\r\n" in line.recv(65_536, socket.MSG_PEEK).lower()
        assert answer(line) == told


@pytest.mark.parametrize("host", ["acme.localhost", "nobody.localhost"])
def test_who_is_answered_without_the_body_that_follows_has_the_answer_and_asks_again(web, settings, host):
    settings.DOMAIN, settings.ROUTER = "localhost", "caddy"
    asked = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6000\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        for _ in range(2):
            line.sendall(asked)
            time.sleep(0.1)
            line.sendall(b"x" * 6_000)
            told = http.client.HTTPResponse(line)
            told.begin()
            assert (told.status, told.headers["connection"]) == (401, None)
            told.read()


def test_m1_a_body_of_unknown_length_is_counted_while_it_comes(web):
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall(head("Transfer-Encoding: chunked") + CHUNK * 17)
        assert b" 413 " in line.recv(65_536).split(b"\r\n")[0]


LARGE = 200_000


def until_held(size):
    for _ in range(400):
        if door_http._arriving._total == size:
            return
        time.sleep(0.02)
    raise AssertionError(f"{door_http._arriving._total} bytes are held")


@contextmanager
def unfinished(web, address):
    """A line on which all of a body but its last byte was sent."""
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall(head(f"Content-Length: {LARGE}", f"X-Forwarded-For: {address}") + b" " * (LARGE - 1))
        yield line


def test_what_is_on_its_way_fills_no_memory_and_whoever_sends_little_is_served(web, settings, monkeypatch):
    settings.BEHIND_PROXY = True
    monkeypatch.setattr(arriving, "OF_ONE", LARGE * 2)
    monkeypatch.setattr(arriving, "AT_ONCE", LARGE * 3)
    with ExitStack() as lines:
        for number, address in enumerate(("203.0.113.7", "203.0.113.7", "203.0.113.8")):
            lines.enter_context(unfinished(web, address))
            until_held((number + 1) * (LARGE - 1))
            if number:  # two of one caller are here, then as much as there is room for
                refused = "203.0.113.7" if number == 1 else "203.0.113.9"
                assert first_answer(lines.enter_context(unfinished(web, refused))) == (503, "overloaded")
        small = lines.enter_context(socket.create_connection(("127.0.0.1", web), timeout=20))
        small.sendall(head("Content-Length: 2", "X-Forwarded-For: 203.0.113.7", "Connection: close") + b"{}")
        assert answer(small)[0] == 422
    until_held(0)  # who is gone holds nothing any more
    with unfinished(web, "203.0.113.7") as line:
        line.sendall(b"x")
        assert b" 400 " in line.recv(65_536).split(b"\r\n")[0]
    until_held(0)


def test_a_body_in_pieces_arrives_whole(web):
    body = b'{"email": 5, "canary": 6}'
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall(head(f"Content-Length: {len(body)}", "Connection: close") + body[:9])
        line.sendall(body[9:])
        assert answer(line) == (422, "invalid_field")


def test_who_hangs_up_half_way_is_not_answered_and_the_next_one_is(web):
    with socket.create_connection(("127.0.0.1", web), timeout=20) as line:
        line.sendall(head("Content-Length: 100") + b"{")
    test_a_body_in_pieces_arrives_whole(web)


def test_who_hangs_up_before_an_answer_that_needs_no_body_is_no_fault_of_ours():
    async def receive():
        return {"type": "http.disconnect"}

    request = door_http.DoorRequest({"headers": [(b"content-length", b"100")]}, receive)
    assert asyncio.run(request.breaks_off()) is True
