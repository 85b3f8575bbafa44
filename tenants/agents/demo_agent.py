"""The demo agent: one file, standard library only, Python 3.9 or newer, no import from the project.

    python3 -I -S demo_agent.py CONFIG.json

Serves ``/health``, ``/metrics``, ``/webhook``, ``/v1/chat/completions`` and the WebSocket ``/ws``. It answers with an
echo, or through an OpenAI-compatible model when its configuration names one. The key ``faults`` makes it misbehave
on purpose: ``exit_code`` (at once), ``never_healthy``, ``healthy_after_s``, ``crash_after_s``, ``hang`` (accepts
connections and never answers), ``leak_mb_per_s``, ``ignore_sigterm``, ``print_kb`` (at the start).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

# asyncio would load OpenSSL, 4 MB that an agent without a model never uses; http.client imports it when it must.
sys.modules["ssl"] = None  # type: ignore[assignment]
import asyncio  # noqa: E402

del sys.modules["ssl"]

HEAD_LIMIT = 16_384
BODY_LIMIT, CHAT_LIMIT = 1_048_576, 67_108_864
ANSWER_LIMIT = 10_485_760
IDLE_S = 75
MODEL_S = 120
MODEL_CALLS = 32
GONE = (OSError, EOFError, asyncio.TimeoutError)  # the client left or fell asleep; EOFError is IncompleteReadError


class Refused(Exception):
    """Answered with ``status`` and an error envelope; the connection ends after it when ``close``."""

    def __init__(self, status, kind, message, close=False):
        super().__init__(message)
        self.status, self.close = status, close
        self.envelope = {"error": {"type": kind, "message": message}}


class BadFrame(Exception):
    """Ends a WebSocket with the close code in ``args``."""


def say(line):
    """One line of the log; never a message's content."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def same(left, right):
    """Compare without telling by the time it takes how much of a guess was right."""
    from hmac import compare_digest

    return compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


def parsed(data, refusal):
    """``data`` as a JSON object; raises ``refusal`` when it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise refusal
    return value


def nonsense():
    return Refused(502, "bad_upstream", "The model's answer makes no sense.")


class Metrics:
    """Counts since the start, written in the family of names that the configuration asks for."""

    def __init__(self, family):
        self.family = family
        self.messages = {("webhook", "in"): 0, ("webhook", "out"): 0}
        self.tokens = {"input": 0, "output": 0}

    def message(self, channel, direction):
        self.messages[channel, direction] = self.messages.get((channel, direction), 0) + 1

    def usage(self, answer):
        usage = answer.get("usage")
        for direction, key in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            count = usage.get(key) if isinstance(usage, dict) else None
            self.tokens[direction] += count if isinstance(count, int) and count > 0 else 0

    def text(self):
        lines = []
        if self.family in ("both", "documents"):
            lines += [*self._messages("zeroclaw_messages_total"), "# TYPE zeroclaw_tokens_total counter"]
            lines += [f'zeroclaw_tokens_total{{direction="{d}"}} {n}' for d, n in self.tokens.items()]
        if self.family in ("both", "zeroclaw"):
            lines += self._messages("zeroclaw_channel_messages_total")
            for direction, total in self.tokens.items():
                name = f"zeroclaw_tokens_{direction}_total"
                lines += [f"# TYPE {name} counter", f'{name}{{model_provider="demo",model="demo"}} {total}']
        return "\n".join(lines or ["# metrics are off"]) + "\n"

    def _messages(self, name):
        counts = [f'{name}{{channel="{c}",direction="{d}"}} {n}' for (c, d), n in sorted(self.messages.items())]
        return [f"# TYPE {name} counter", *counts]


def last_user_text(body):
    """What the user said last: a string, or the texts among a list of parts."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
            return " ".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    raise Refused(400, "bad_request", "messages must hold a message of the user.")


class Echo:
    """Says what it was told; streamed, word by word."""

    def __init__(self, delay_s):
        self.delay_s = delay_s

    async def whole(self, body):
        text = "Echo: " + last_user_text(body)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return dict(self._frame("chat.completion"), choices=[choice], usage=self._usage(text))

    async def chunks(self, body):
        text, frame = "Echo: " + last_user_text(body), self._frame("chat.completion.chunk")
        for number, word in enumerate(text.split(" ")):
            if number:
                await asyncio.sleep(self.delay_s)
            delta = {"content": " " + word} if number else {"role": "assistant", "content": word}
            yield dict(frame, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        yield dict(frame, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=self._usage(text))

    def _frame(self, kind):
        return {"id": "chatcmpl-" + os.urandom(8).hex(), "object": kind, "created": int(time.time()), "model": "demo"}

    def _usage(self, text):
        said = len(text.split())
        return {"prompt_tokens": said - 1, "completion_tokens": said, "total_tokens": 2 * said - 1}


class Model:
    """An OpenAI-compatible model, called in threads because the standard library has no asynchronous client."""

    def __init__(self, base_url, api_key, model):
        self.base_url, self.api_key, self.model = base_url.rstrip("/"), api_key, model

    async def whole(self, body):
        answer = b"".join([line async for line in self._lines(dict(body, stream=False))])
        return parsed(answer, nonsense())

    async def chunks(self, body):
        async for line in self._lines(dict(body, stream=True, stream_options={"include_usage": True})):
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data and data != b"[DONE]":
                yield parsed(data, nonsense())

    async def _lines(self, body):
        in_thread, size = asyncio.get_running_loop().run_in_executor, 0
        try:
            answer = await in_thread(None, self._request, json.dumps(dict(body, model=self.model)).encode())
            while True:
                line = await in_thread(None, answer.readline, BODY_LIMIT)
                size += len(line)
                if not line or size > ANSWER_LIMIT:
                    return
                yield line
        except Exception as error:
            say(f"model: {type(error).__name__}")
            raise Refused(502, "bad_upstream", "The model does not answer as it should.") from None

    def _request(self, body):
        from http.client import HTTPConnection, HTTPSConnection
        from urllib.parse import urlsplit

        url, proxy = urlsplit(self.base_url), urlsplit(os.environ.get("HTTPS_PROXY", ""))
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(proxy.netloc or url.netloc, timeout=MODEL_S)
        if proxy.netloc:
            connection.set_tunnel(url.netloc)
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + self.api_key, "Connection": "close"}
        connection.request("POST", url.path + "/chat/completions", body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ConnectionError(answer.status)
        return answer


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def json(self):
        return parsed(self.body, Refused(400, "bad_request", "The body must be a JSON object."))

    def bearer(self):
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if kind.lower() == "bearer" else ""


async def read_request(reader):
    """The next request of a connection. One of GONE when there is none, Refused when it is malformed."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
    except asyncio.LimitOverrunError:
        raise Refused(431, "headers_too_large", "The headers are too large.", close=True) from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers.keys() & {"content-length", "host"}:
            raise Refused(400, "bad_request", "A header is malformed.", close=True)
        headers[name.lower()] = value.strip()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refused(400, "bad_request", "This is not HTTP/1.1.", close=True)
    return Request(words[0], words[1].split("?")[0], headers, await read_body(reader, headers, words[1]))


async def read_body(reader, headers, path):
    limit = CHAT_LIMIT if path == "/v1/chat/completions" else BODY_LIMIT
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        raise Refused(411, "length_required", "Send a Content-Length.", close=True)
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "bad_request", "Content-Length is not a number.", close=True)
    if len(length) > 9 or int(length) > limit:
        raise Refused(413, "too_large", f"The body is larger than {limit >> 20} MB.", close=True)
    return await asyncio.wait_for(reader.readexactly(int(length)), IDLE_S)


def head_bytes(status, headers):
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer_bytes(status, content, kind="application/json", close=False):
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    headers = {"Content-Type": kind, "Content-Length": len(body), **({"Connection": "close"} if close else {})}
    return head_bytes(status, headers) + body


class WebSocket:
    """The server's side of RFC 6455: echoes text and binary messages, answers pings, closes politely."""

    GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

    def __init__(self, reader, writer, metrics):
        self.reader, self.writer, self.metrics = reader, writer, metrics

    @classmethod
    def accept(cls, key):
        from base64 import b64encode
        from hashlib import sha1

        return b64encode(sha1(key.encode("latin-1") + cls.GUID, usedforsecurity=False).digest()).decode()

    async def run(self):
        kind, message = 0, bytearray()
        try:
            while True:
                final, opcode, data = await self._frame(BODY_LIMIT - len(message))
                if opcode == self.CLOSE:
                    raise BadFrame(1000)
                if opcode == self.PING:
                    await self._send(self.PONG, data)
                if opcode > 7:
                    continue
                if (opcode == 0) != (kind != 0):
                    raise BadFrame(1002)
                kind, message = kind or opcode, message + data
                if final:
                    await self._echo(kind, bytes(message))
                    kind, message = 0, bytearray()
        except BadFrame as end:
            await self._send(self.CLOSE, struct.pack(">H", *end.args))

    async def _echo(self, kind, message):
        try:
            message.decode() if kind == self.TEXT else None
        except UnicodeDecodeError:
            raise BadFrame(1007) from None
        self.metrics.message("ws", "in")
        await self._send(kind, message)
        self.metrics.message("ws", "out")

    async def _frame(self, room):
        first, second = await self.reader.readexactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
            raise BadFrame(1002)  # reserved bits, a client that does not mask, or an unknown opcode
        if opcode > 7 and (size > 125 or not first & 0x80):
            raise BadFrame(1002)  # a control frame is short and whole
        if size > 125:
            form = ">H" if size == 126 else ">Q"
            (size,) = struct.unpack(form, await self.reader.readexactly(struct.calcsize(form)))
        if size > max(room, 125):
            raise BadFrame(1009)
        mask, data = await self.reader.readexactly(4), await self.reader.readexactly(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return bool(first & 0x80), opcode, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")

    async def _send(self, opcode, data):
        size = len(data)
        head = bytes([0x80 | opcode, size if size < 126 else 126 if size < 65_536 else 127])
        if size > 125:
            head += struct.pack(">H" if size < 65_536 else ">Q", size)
        self.writer.write(head + data)
        await self.writer.drain()


class Agent:
    def __init__(self, config):
        model = config.get("model") or {}
        self.config, self.faults = config, config.get("faults") or {}
        self.metrics, self.started = Metrics(config.get("metrics", "both")), time.monotonic()
        echo = Echo(config.get("stream_delay_ms", 0) / 1000)
        self.source = Model(model["base_url"], model["api_key"], model["model"]) if model.get("base_url") else echo
        self.routes = {
            "/health": ("GET", self.health),
            "/metrics": ("GET", self.show_metrics),
            "/webhook": ("POST", self.webhook),
            "/v1/chat/completions": ("POST", self.chat),
            "/ws": ("GET", self.websocket),
        }

    async def serve(self, reader, writer):
        """One connection, for as long as it lives."""
        try:
            if self.faults.get("hang"):
                await asyncio.sleep(1e9)
            while await self.serve_one(reader, writer):
                pass
        except GONE:
            pass
        finally:
            writer.close()

    async def serve_one(self, reader, writer):
        close = False
        try:
            request = await read_request(reader)
            close = request.headers.get("connection", "").lower() == "close"
            method, handler = self.routes.get(request.path, ("", None))
            if handler is None:
                raise Refused(404, "not_found", "There is nothing here.")
            if request.method != method:
                raise Refused(405, "method_not_allowed", f"Only {method} is allowed here.")
            await handler(request, reader, writer)
        except Refused as refusal:
            close = close or refusal.close
            writer.write(answer_bytes(refusal.status, refusal.envelope, close=close))
        await writer.drain()
        return not (close or writer.is_closing())

    async def health(self, request, reader, writer):
        uptime = time.monotonic() - self.started
        ok = not self.faults.get("never_healthy") and uptime >= self.faults.get("healthy_after_s", 0)
        state = "ok" if ok else "starting"
        channels = {"channel:" + name: {"status": "configured"} for name in self.config.get("channels", {})}
        body = {"status": state, "uptime_s": int(uptime), "runtime": {"components": channels}}
        writer.write(answer_bytes(200 if ok else 503, body))

    async def show_metrics(self, request, reader, writer):
        writer.write(answer_bytes(200, self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8"))

    async def webhook(self, request, reader, writer):
        """Open to the world, so it never spends the tenant's tokens: always an echo. With a webhook channel every
        message has to be signed."""
        if not self.is_signed(request):
            raise Refused(401, "unauthenticated", "X-Webhook-Signature is missing or wrong.")
        message = request.json().get("message")
        if not isinstance(message, str):
            raise Refused(400, "bad_request", "message must be a text.")
        self.metrics.message("webhook", "in")
        say("POST /webhook")
        writer.write(answer_bytes(200, {"response": "Echo: " + message}))
        self.metrics.message("webhook", "out")

    def is_signed(self, request):
        from hashlib import sha256
        from hmac import new

        given, channels = request.headers.get("x-webhook-signature", ""), self.config.get("channels", {}).values()
        keys = [channel["secret"].encode() for channel in channels if channel["kind"] == "webhook"]
        return not keys or any(same(given, "sha256=" + new(key, request.body, sha256).hexdigest()) for key in keys)

    async def chat(self, request, reader, writer):
        token = self.config.get("token", "")
        if not token or not same(request.bearer(), token):
            raise Refused(401, "unauthenticated", "The bearer token is missing or wrong.")
        body = request.json()
        last_user_text(body)
        self.metrics.message("chat", "in")
        say("POST /v1/chat/completions")
        if body.get("stream"):
            await self.stream(self.source.chunks(body), writer)
        else:
            answer = await self.source.whole(body)
            self.metrics.usage(answer)
            writer.write(answer_bytes(200, answer))
        self.metrics.message("chat", "out")

    async def stream(self, chunks, writer):
        """Server-sent events; the status line waits for the first one, so that an early failure is still a 502."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "Transfer-Encoding": "chunked"}
        begun = False
        try:
            async for chunk in chunks:
                if not begun:
                    writer.write(head_bytes(200, headers))
                    begun = True
                self.metrics.usage(chunk)
                await self.send_event(writer, json.dumps(chunk))
        except Refused as refusal:
            if not begun:
                raise
            await self.send_event(writer, json.dumps(refusal.envelope))
        finally:
            await chunks.aclose()
        if not begun:
            raise nonsense()
        await self.send_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")

    async def send_event(self, writer, text):
        data = f"data: {text}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()

    async def websocket(self, request, reader, writer):
        key = request.headers.get("sec-websocket-key", "")
        wanted = request.headers.get("upgrade", "").lower() == "websocket"
        if not (wanted and len(key) == 24 and request.headers.get("sec-websocket-version") == "13"):
            raise Refused(426, "upgrade_required", "This is a WebSocket.", close=True)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": WebSocket.accept(key)}
        writer.write(head_bytes(101, headers))
        await WebSocket(reader, writer, self.metrics).run()
        writer.close()


async def misbehave(faults):
    """The faults that come with time. What leaks is written to, so that it counts as used."""
    loop, hoard = asyncio.get_running_loop(), []
    if faults.get("crash_after_s") is not None:
        loop.call_later(faults["crash_after_s"], os._exit, 1)
    while faults.get("leak_mb_per_s"):
        hoard.append(b"x" * int(faults["leak_mb_per_s"] * 104_858))
        await asyncio.sleep(0.1)


async def main(config):
    agent, loop, stop = Agent(config), asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(MODEL_CALLS))
    if agent.faults.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    host, port = config["listen"]["host"], config["listen"]["port"]
    await asyncio.start_server(agent.serve, host, port, limit=HEAD_LIMIT, backlog=512)
    say(f"demo agent listens on {host}:{port}")
    trouble = asyncio.ensure_future(misbehave(agent.faults))
    await stop.wait()
    trouble.cancel()
    say("demo agent ends")
    os._exit(0)  # open streams and threads that wait for a model must not delay the end


def run(argv):
    try:
        with open(argv[1], encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError, IndexError) as error:
        say(f"demo agent: no usable configuration: {type(error).__name__}")
        return 2
    faults = config.get("faults") or {}
    for _ in range(faults.get("print_kb", 0)):
        say("x" * 1023)
    if faults.get("exit_code") is not None:
        return faults["exit_code"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # many idle WebSockets need many descriptors
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    try:
        asyncio.run(main(config))
    except OSError as error:
        say(f"demo agent: {error.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv))
