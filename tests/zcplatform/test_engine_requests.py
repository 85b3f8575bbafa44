"""What the proxy between web and engine understands of a request, and what it writes of it."""

from __future__ import annotations

import json

import pytest

from zcplatform.engine_requests import BODY_MAX, Refused, fields, parse

ID = "ab" * 32
HEAD = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: x\r\n"
EXEC = f"POST /containers/{ID}/exec HTTP/1.1\r\n".encode()


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://elsewhere/info HTTP/1.1\r\n",
        b"GET /containers/../info HTTP/1.1\r\n",
        b"GET //info HTTP/1.1\r\n",
        b"GET /./info HTTP/1.1\r\n",
        b"GET /info/ HTTP/1.1\r\n",
        b"GET /info%2f..%2fimages HTTP/1.1\r\n",
        b"GET /inf%6f HTTP/1.1\r\n",
        b"GET /INFO HTTP/1.1\r\n",
        b"GET /info#/images HTTP/1.1\r\n",
        b"GET /info;x=1 HTTP/1.1\r\n",
        b"GET \x01/info HTTP/1.1\r\n",
        b"GET /v1.41/v1.41/info HTTP/1.1\r\n",
        b"GET /v1.412/info HTTP/1.1\r\n",
        b"GET /v2.0/info HTTP/1.1\r\n",
        b"GET /info HTTP/2\r\n",
        b"GET /info HTTP/0.9\r\n",
        b"GET /info\r\n",
        b"GET  /info HTTP/1.1\r\n",
        b"GET /info HTTP/1.1 x\r\n",
        b"get /info HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\r\nGET /info HTTP/1.1\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n",
        HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n",
        HEAD + b"Trailer: X\r\n",
        HEAD + b"Expect: 100-continue\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length: 0\r\ncontent-length: 0\r\n",
        HEAD + b"Content-Length: 0, 0\r\n",
        HEAD + b"Content-Length: +0\r\n",
        HEAD + b"Content-Length: 0x0\r\n",
        HEAD + b"Content-Length: 4\r\n",
        HEAD + b"Content-Length : 0\r\n",
        HEAD + b"no colon\r\n",
        HEAD + b"X: a\r\n b\r\n",
        HEAD + b"X: a\nTransfer-Encoding: chunked\r\n",
        HEAD + b"X: a\rb\r\n",
        HEAD + b"X: a\0b\r\n",
        HEAD + b"X\0: a\r\n",
        HEAD + b"X: \xff\r\n",
        HEAD + b"Upgrade: h2c\r\n",
        HEAD + b"Upgrade: tcp\r\n",
        f"POST /exec/{ID}/start HTTP/1.1\r\nUpgrade: h2c\r\n".encode(),
        EXEC + f"Content-Length: {BODY_MAX + 1}\r\n".encode(),
    ],
)
def test_a_head_that_two_readers_could_read_differently_is_refused(head):
    with pytest.raises(Refused):
        parse(head + b"\r\n")


@pytest.mark.parametrize(
    "target",
    [
        "/info?x=1",
        f"/containers/{ID}/logs?stdout=1&stdout=0",
        f"/containers/{ID}/logs?stdout=1&std%6fut=0",
        f"/containers/{ID}/logs?Stdout=1",
        f"/containers/{ID}/logs?stdout=1;stderr=1",
        f"/containers/{ID}/logs?details=1",
        f"/containers/{ID}/logs?tail=-1",
        f"/containers/{ID}/logs?since=1%0a",
        f"/containers/{ID}/logs?stdout",
        f"/containers/{ID}/top?ps_args=eww",
        f"/containers/{ID}/json?size=1",
        f"/containers/{ID}/stats?stream=maybe",
        "/containers/json?all=1&all=0",
        "/containers/json?name=x",
        "/containers/json?" + "&".join(f"limit={n}" for n in range(99)),
    ],
)
def test_a_parameter_that_is_unknown_stands_twice_or_is_odd_is_refused(target):
    with pytest.raises(Refused):
        parse(f"GET {target} HTTP/1.1\r\n\r\n".encode())


def test_parameters_are_written_anew():
    request = parse(f"GET /v1.41/containers/{ID}/logs?std%6fut=1&tail=all HTTP/1.1\r\n\r\n".encode())
    sent = request.written(path=request.path, query=request.query, body=b"")
    assert sent.startswith(f"GET /v1.41/containers/{ID}/logs?stdout=1&tail=all HTTP/1.1\r\n".encode())


REFUSED_EXECS = [
    b'{"Privileged": true}',
    b'{"privileged": true}',
    b'{"PRIVILEGED": true}',
    b'{"Privileged": 1}',
    b'{"Privileged": false, "Privileged": true}',
    b'{"Privileged": false, "privileged": true}',
    '{"Privileged": false, "Pr\u0131vileged": true}'.encode(),
    b'{"Tty": false, "tty": true}',
    b'{"User": "", "user": "0:0"}',
    b'{"\\u0055ser": "", "User": "0:0"}',
    '{"U\u017fer": "0:0"}'.encode(),
    b'{"User": 0}',
    b'{"User": ["0"]}',
    b'{"User": "Root "}',
    b'{"WorkingDir": "/"}',
    b'{"workingdir": "/"}',
    b'{"DetachKeys": "a"}',
    b'{"Detach": true}',
    b'{"Cmd": "id"}',
    b'{"Cmd": [["id"]]}',
    b'{"Env": {"A": "b"}}',
    b'{"Tty": "yes"}',
    b'{"AttachStdin": 1}',
    b'{"Unknown": null}',
    b'{"": 1}',
    b'{"Tty": NaN}',
    b"[]",
    b"null",
    b"1",
    b"{",
    b'{"Tty": true} {"Privileged": true}',
    b"\xff",
    b"\xef\xbb\xbf{}",
    '{"Tty": true}'.encode("utf-16"),
    b"[" * 60_000,
    b'{"Cmd":' * 9_000,
]


@pytest.mark.parametrize("body", REFUSED_EXECS)
def test_a_body_with_more_than_the_known_fields_each_once_is_refused(body):
    with pytest.raises(Refused):
        fields(parse(EXEC + b"\r\n"), body)


@pytest.mark.parametrize(
    "body",
    [b'{"Detach": true}', b'{"detach": true}', b'{"Detach": 1}', b'{"Tty": false, "Detach": false, "DETACH": true}'],
)
def test_a_start_that_asks_to_detach_is_refused(body):
    with pytest.raises(Refused):
        fields(parse(f"POST /exec/{ID}/start HTTP/1.1\r\n\r\n".encode()), body)


def test_what_clients_write_for_nothing_is_let_through():
    said = {"Cmd": ["id"], "User": "200001:200001", "Privileged": False, "Env": None, "DetachKeys": "", "Tty": False}
    assert fields(parse(EXEC + b"\r\n"), json.dumps(said).encode()) == {k: v for k, v in said.items() if k != "Env"}
