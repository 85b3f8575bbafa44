"""The real program, as the process runtime starts it, over real sockets."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import time

import httpx
import pytest
import websockets

from tenants.agents import agent_kind
from tenants.agents.base import Counters, ModelEndpoint
from tenants.agents.demo import PROGRAM
from tenants.runtimes.base import Placement
from tests.tenants.agents.samples import channel, settings_for
from zcplatform.lib.redact import SecretStr

KIND = agent_kind("demo")
TOKEN = SecretStr("canary-agent-token")
BODY = {"messages": [{"role": "user", "content": "one two three"}]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """One demo agent; ``url`` answers once the port does."""

    def __init__(self, folder, *, extra=None, model=None, channels=()):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        place = Placement("127.0.0.1", self.port, folder, folder, in_container=False)
        settings = settings_for(KIND, model=model, channels=channels, extra=KIND.check_extra(extra or {}))
        for name, content in KIND.config_files(settings, place).items():
            (folder / name).write_bytes(content)
        self.process = subprocess.Popen(
            KIND.argv(place), env=KIND.env(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def wait(self):
        """Until it accepts connections; fails when it ends before."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self.process.poll() is None, self.process.stdout.read().decode()
            time.sleep(0.02)
        raise AssertionError("the agent does not listen")

    def get(self, path):
        return httpx.get(self.url + path)

    def chat(self, body=BODY, token=TOKEN):
        call = KIND.chat_call(body, token)
        return httpx.post(self.url + call.path, headers=dict(call.headers), json=dict(call.body), timeout=20)

    def counters(self):
        return KIND.counters(self.get("/metrics").text)

    def raw(self, data):
        """What the agent answers to these bytes, until it ends the connection."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(data)
            parts = []
            while part := connection.recv(65_536):
                parts.append(part)
        return b"".join(parts)

    def end(self):
        """Exit code and output; a second call has nothing to do."""
        if self.process.stdout.closed:
            return self.process.returncode, ""
        if self.process.poll() is None:
            self.process.kill()
        output = self.process.communicate(timeout=20)[0].decode()
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path):
    agents = []

    def run(**options):
        folder = tmp_path / str(len(agents))
        folder.mkdir()
        agents.append(Running(folder, **options))
        return agents[-1]

    yield run
    for agent in agents:
        agent.end()


@pytest.fixture
def agent(start):
    """An agent of the test's own."""
    return start().wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One for the tests that change nothing about it."""
    running = Running(tmp_path_factory.mktemp("shared")).wait()
    yield running
    running.end()


def events(response):
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_it_is_one_file_that_needs_only_the_standard_library(shared):
    assert KIND.argv(Placement("127.0.0.1", 1, PROGRAM.parent, PROGRAM.parent, in_container=False))[1:3] == ("-I", "-S")
    answer = shared.get("/health")
    assert KIND.healthy(answer.status_code, answer.content)


def test_in_a_container_the_program_of_the_image_runs():
    argv = KIND.argv(Placement("0.0.0.0", 8080, PROGRAM.parent, PROGRAM.parent))
    assert argv[:4] == ("/usr/bin/python3", "-I", "-S", "/opt/zcplatform/demo_agent.py")


def test_chat_echoes_whole(shared):
    answer = shared.chat()
    reply = KIND.chat_reply(BODY, answer.content)
    assert reply["choices"][0]["message"]["content"] == "Echo: one two three"
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_chat_echoes_as_a_stream_with_the_usage_in_the_last_chunk(shared):
    chunks = events(shared.chat({**BODY, "stream": True}))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Echo: one two three"
    assert [("usage" in chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_comes_word_by_word(start):
    agent = start(extra={"stream_delay_ms": 30}).wait()
    call = KIND.chat_call({**BODY, "stream": True}, TOKEN)
    with httpx.stream("POST", agent.url + call.path, headers=dict(call.headers), json=dict(call.body)) as answer:
        assert len([chunk for chunk in answer.iter_raw() if chunk.strip()]) >= 4


@pytest.mark.parametrize("token", ["canary-agent-tokex", "x", "ü"])
def test_chat_without_the_token_is_refused(shared, token):
    answer = httpx.post(
        shared.url + "/v1/chat/completions", headers={b"Authorization": f"Bearer {token}".encode()}, json=BODY
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "unauthenticated"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 50_000, b'{"messages": []}', b'{"messages": [1]}', b"\xff"]
)
def test_a_chat_body_that_makes_no_sense_is_400(shared, content):
    headers = {"Authorization": f"Bearer {TOKEN.reveal()}"}
    assert httpx.post(shared.url + "/v1/chat/completions", headers=headers, content=content).status_code == 400


def test_the_webhook_is_an_echo(shared):
    assert httpx.post(shared.url + "/webhook", json={"message": "hé"}).json() == {"response": "Echo: hé"}
    assert httpx.post(shared.url + "/webhook", json={"message": 3}).status_code == 400


def test_with_a_webhook_channel_messages_must_be_signed(start):
    agent = start(channels=(channel("webhook"),)).wait()
    body = b'{"message": "hi"}'
    signature = hmac.new(b"canary-webhook-secret", body, hashlib.sha256).hexdigest()
    statuses = [
        httpx.post(agent.url + "/webhook", content=body, headers=headers).status_code
        for headers in (
            {},
            {"X-Webhook-Signature": "sha256=" + "0" * 64},
            {"X-Webhook-Signature": f"sha256={signature}"},
        )
    ]
    assert statuses == [401, 401, 200]
    assert "channel:c1" in agent.get("/health").json()["runtime"]["components"]


def test_counters_before_and_after(agent):
    assert agent.counters() == Counters(0, 0, 0, 0)
    agent.chat()
    agent.chat({**BODY, "stream": True})
    httpx.post(agent.url + "/webhook", json={"message": "x"})
    assert agent.counters() == Counters(messages_in=3, messages_out=3, tokens_in=6, tokens_out=8)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("documents", {"zeroclaw_messages_total", "zeroclaw_tokens_total"}),
        (
            "zeroclaw",
            {"zeroclaw_channel_messages_total", "zeroclaw_tokens_input_total", "zeroclaw_tokens_output_total"},
        ),
        ("none", set()),
    ],
)
def test_the_family_of_metrics_can_be_chosen(start, family, names):
    agent = start(extra={"metrics": family}).wait()
    agent.chat()
    lines = agent.get("/metrics").text.splitlines()
    assert {line.split("{")[0] for line in lines if not line.startswith("#")} == names
    assert agent.counters() == (Counters(1, 1, 3, 4) if names else Counters())


def model_of(other):
    return ModelEndpoint("custom", "some-model", other.url + "/v1", TOKEN)


def test_it_speaks_through_a_model(start):
    agent = start(model=model_of(start().wait())).wait()
    assert agent.chat().json()["choices"][0]["message"]["content"] == "Echo: one two three"
    chunks = events(agent.chat({**BODY, "stream": True}))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Echo: one two three"
    assert agent.counters() == Counters(2, 2, 6, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_does_not_answer_is_502(start, stream):
    endpoint = ModelEndpoint("custom", "m", f"http://127.0.0.1:{free_port()}/v1", SecretStr("canary-provider-key"))
    agent = start(model=endpoint).wait()
    answer = agent.chat({**BODY, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "bad_upstream")
    assert "127.0.0.1" not in answer.text and "canary" not in answer.text
    assert agent.get("/health").status_code == 200


def test_a_model_that_refuses_the_key_is_502(start):
    model = model_of(start().wait())
    agent = start(model=ModelEndpoint(model.provider, model.model, model.base_url, SecretStr("wrong"))).wait()
    assert agent.chat().status_code == 502


def test_messages_and_secrets_stay_out_of_the_log(agent):
    agent.chat()
    _, output = agent.end()
    assert "POST /v1/chat/completions" in output
    assert "one two" not in output and "canary" not in output


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /health?x=1 HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"GET /nope HTTP/1.1\r\nConnection: close\r\n\r\nGET", 404),
        (b"DELETE /health HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health SPDY/3\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"POST /webhook HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST /webhook HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /webhook HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"POST /webhook HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /webhook HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0", 411),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /ws HTTP/1.1\r\nConnection: close\r\n\r\n", 426),
    ],
)
def test_malformed_requests_get_a_status_and_an_end(shared, data, status):
    assert shared.raw(data).startswith(f"HTTP/1.1 {status} ".encode())
    assert shared.get("/health").status_code == 200


def test_a_connection_serves_many_requests(shared):
    with httpx.Client() as client:
        assert {client.get(shared.url + "/health").status_code for _ in range(20)} == {200}


def over_websocket(agent, conversation):
    async def run():
        async with websockets.connect(f"ws://127.0.0.1:{agent.port}/ws", max_size=None) as connection:
            return await conversation(connection)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "message", ["", "hé🦀", "x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536, b"\x00\xff" * 200_000]
)
def test_a_websocket_echoes_messages_of_every_length(shared, message):
    async def conversation(connection):
        await connection.send(message)
        return await connection.recv()

    assert over_websocket(shared, conversation) == message


def test_a_websocket_echoes_fragments_and_answers_pings(agent):
    async def conversation(connection):
        await connection.send(["one ", "two ", "three"])
        await (await connection.ping(b"data"))
        return await connection.recv()

    assert over_websocket(agent, conversation) == "one two three"
    assert agent.counters().messages_in == 1


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
        (b"\x83\x80\0\0\0\0", 1002),  # an unknown opcode
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
        (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),  # a message inside another
        (b"\x09\x80\0\0\0\0", 1002),  # a fragmented ping
        (b"\x89\xfe\x00\x7e\0\0\0\0", 1002),  # a long ping
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # not UTF-8
        (b"\x82\xff\0\0\0\0\xff\xff\xff\xff", 1009),  # 4 GB
        (b"\x88\x80\0\0\0\0", 1000),  # goodbye
    ],
)
def test_a_bad_frame_ends_the_websocket_with_its_code(shared, frame, code):
    answer = shared.raw(HANDSHAKE + frame)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith(b"\x88\x02" + code.to_bytes(2, "big"))


def test_many_idle_websockets_cost_little(agent):
    async def run():
        address = f"ws://127.0.0.1:{agent.port}/ws"
        connections = await asyncio.gather(*(websockets.connect(address) for _ in range(200)))
        await connections[-1].send("still here")
        answer = await connections[-1].recv()
        await asyncio.gather(*(connection.close() for connection in connections))
        return answer

    assert asyncio.run(run()) == "still here"
    assert resident_mb(agent) < 40


def resident_mb(agent):
    with open(f"/proc/{agent.process.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def test_sigterm_ends_it_at_once_even_while_it_streams(start):
    agent = start(extra={"stream_delay_ms": 60_000}).wait()
    call = KIND.chat_call({**BODY, "stream": True}, TOKEN)
    with httpx.stream("POST", agent.url + call.path, headers=dict(call.headers), json=dict(call.body)):
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(timeout=10) == 0


def test_fault_never_healthy(start):
    agent = start(extra={"faults": {"never_healthy": True}}).wait()
    answer = agent.get("/health")
    assert not KIND.healthy(answer.status_code, answer.content)
    assert agent.chat().status_code == 200


def test_fault_healthy_after_some_time(start):
    agent = start(extra={"faults": {"healthy_after_s": 0.5}}).wait()
    assert agent.get("/health").status_code == 503
    while agent.get("/health").status_code != 200:
        time.sleep(0.05)


def test_fault_crash(start):
    assert start(extra={"faults": {"crash_after_s": 0.2}}).process.wait(timeout=20) == 1


def test_fault_exit_at_once(start):
    agent = start(extra={"faults": {"exit_code": 7}})
    assert agent.process.wait(timeout=20) == 7
    assert "listens" not in agent.end()[1]


def test_fault_hang(start):
    agent = start(extra={"faults": {"hang": True}}).wait()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(agent.url + "/health", timeout=0.5)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(timeout=10) == 0


def test_fault_leak(start):
    agent = start(extra={"faults": {"leak_mb_per_s": 200}}).wait()
    before = resident_mb(agent)
    while resident_mb(agent) < before + 30:
        time.sleep(0.05)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(timeout=10) == 0


def test_fault_ignore_sigterm(start):
    agent = start(extra={"faults": {"ignore_sigterm": True}}).wait()
    assert agent.get("/health").status_code == 200
    agent.process.send_signal(signal.SIGTERM)
    assert agent.get("/health").status_code == 200
    assert agent.end()[0] == -signal.SIGKILL


def test_fault_print_a_lot(start):
    agent = start(extra={"faults": {"print_kb": 200, "exit_code": 0}})
    assert len(agent.process.communicate(timeout=20)[0]) >= 200 * 1024


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_missing_or_broken_configuration_is_said_without_its_content(tmp_path, content):
    file = tmp_path / "demo.json"
    if content is not None:
        file.write_bytes(content)
    argv = KIND.argv(Placement("127.0.0.1", 1, tmp_path, tmp_path, in_container=False))
    done = subprocess.run(argv, capture_output=True)
    assert done.returncode == 2
    assert b"no usable configuration" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(agent):
    second = subprocess.run(agent.process.args, capture_output=True, timeout=20)
    assert second.returncode == 1
    assert b"ddress already in use" in second.stdout
