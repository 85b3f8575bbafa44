"""The demo agent: one file, standard library only, Python 3.9 or newer, no import from the project.

    python3 -I -S demo_agent.py CONFIG.json

Serves ``/health``, ``/metrics``, ``/webhook``, ``/v1/chat/completions`` and the WebSocket ``/ws``. It answers with
an echo, or through an OpenAI-compatible model when its configuration names one. The key ``faults`` makes it
misbehave on purpose, for tests and demonstrations; ``FAULTS`` below lists how.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import threading
import time

# asyncio would load OpenSSL, 4 MB that an agent without a model never uses; http.client imports it when it must.
sys.modules["ssl"] = None  # type: ignore[assignment]
import asyncio  # noqa: E402

del sys.modules["ssl"]

FAULTS = (
    "exit_code",  # exits with this code before it listens
    "never_healthy",  # /health answers 503 for ever
    "healthy_after_s",  # /health answers 503 for so long
    "crash_after_s",  # dies with exit code 1 after so long
    "hang",  # accepts connections and never answers
    "leak_mb_per_s",  # fills memory
    "ignore_sigterm",  # has to be killed
    "print_kb",  # prints so much at the start
)
HEAD_LIMIT = 16_384
BODY_LIMIT = 1_048_576
ANSWER_LIMIT = 10_485_760
IDLE_S = 75
UPSTREAM_S = 120
WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
REASONS.update({411: "Length Required", 413: "Content Too Large", 431: "Headers Too Large", 502: "Bad Gateway"})
REASONS.update({503: "Service Unavailable", 426: "Upgrade Required"})


def say(line):
    """One line of the log; never a message's content."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def same(left, right):
    """Compare without telling by the time it takes how much of a guess was right."""
    from hmac import compare_digest

    return compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


class Refused(Exception):
    """Answered with ``status`` and an error envelope; the connection is closed after it when ``close``."""

    def __init__(self, status, kind, message, close=False):
        super().__init__(message)
        self.status, self.kind, self.message, self.close = status, kind, message, close


# --- counting ----------------------------------------------------------------------------------------------


class Metrics:
    """Counts since the start, written in the family of names that the configuration asks for."""

    def __init__(self, family):
        self.family = family
        self.messages = {}
        self.tokens = {"input": 0, "output": 0}

    def message(self, channel, direction):
        key = (channel, direction)
        self.messages[key] = self.messages.get(key, 0) + 1

    def usage(self, tokens_in, tokens_out):
        self.tokens["input"] += tokens_in
        self.tokens["output"] += tokens_out

    def text(self):
        lines = []
        if self.family in ("both", "documents"):
            lines += ["# TYPE zeroclaw_messages_total counter", *self._messages("zeroclaw_messages_total")]
            lines.append("# TYPE zeroclaw_tokens_total counter")
            lines += [f'zeroclaw_tokens_total{{direction="{d}"}} {n}' for d, n in self.tokens.items()]
        if self.family in ("both", "zeroclaw"):
            lines += ["# TYPE zeroclaw_channel_messages_total counter"]
            lines += self._messages("zeroclaw_channel_messages_total")
            for direction, total in self.tokens.items():
                name = f"zeroclaw_tokens_{direction}_total"
                lines += [f"# TYPE {name} counter", f'{name}{{model_provider="demo",model="echo"}} {total}']
        return "\n".join(lines or ["# metrics are off"]) + "\n"

    def _messages(self, name):
        counts = self.messages or {("webhook", "in"): 0, ("webhook", "out"): 0}
        return [f'{name}{{channel="{c}",direction="{d}"}} {n}' for (c, d), n in sorted(counts.items())]


# --- answering ---------------------------------------------------------------------------------------------


def text_of(content):
    """The text of an OpenAI message content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))


def last_user_text(body):
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    raise Refused(400, "bad_request", "messages must hold a message of the user.")


def count(usage, key):
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


class Echo:
    """Says what it was told, word by word."""

    def __init__(self, delay_s):
        self.delay_s = delay_s

    async def words(self, text):
        for number, word in enumerate(("Echo: " + text).split(" ")):
            if number and self.delay_s:
                await asyncio.sleep(self.delay_s)
            yield word if number == 0 else " " + word

    async def whole(self, body):
        text = last_user_text(body)
        message = {"role": "assistant", "content": "Echo: " + text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return dict(self._frame("chat.completion"), choices=choices, usage=self._usage(text))

    async def chunks(self, body):
        text = last_user_text(body)
        frame = self._frame("chat.completion.chunk")
        delta = {"role": "assistant", "content": ""}
        yield dict(frame, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        async for word in self.words(text):
            yield dict(frame, choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        yield dict(frame, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=self._usage(text))

    def _frame(self, kind):
        return {"id": "chatcmpl-" + os.urandom(8).hex(), "object": kind, "created": int(time.time()), "model": "echo"}

    def _usage(self, text):
        tokens = len(text.split())
        return {"prompt_tokens": tokens, "completion_tokens": tokens + 1, "total_tokens": 2 * tokens + 1}


class Model:
    """An OpenAI-compatible model, called from a thread because the standard library has no asynchronous client."""

    def __init__(self, base_url, api_key, model):
        self.base_url, self.api_key, self.model = base_url.rstrip("/"), api_key, model

    async def whole(self, body):
        answer = b"".join([line async for line in self._lines(dict(body, stream=False))])
        return self._parsed(answer)

    async def chunks(self, body):
        options = {"include_usage": True}
        async for line in self._lines(dict(body, stream=True, stream_options=options)):
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data and data != b"[DONE]":
                yield self._parsed(data)

    def _parsed(self, data):
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Refused(502, "bad_upstream", "The model's answer makes no sense.")
        return value

    async def _lines(self, body):
        loop, gone = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue = asyncio.Queue()

        def put(item):
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, item)

        body = json.dumps(dict(body, model=self.model)).encode()
        threading.Thread(target=self._fetch, args=(body, put, gone), daemon=True).start()
        try:
            while True:
                item = await queue.get()
                if item is None:
                    return
                if isinstance(item, Refused):
                    raise item
                yield item
        finally:
            gone.set()

    def _fetch(self, body, put, gone):
        try:
            self._copy_lines(body, put, gone)
        except Exception as error:  # whatever it is, the coroutine waits for an end
            say(f"model: {type(error).__name__}")
            put(Refused(502, "bad_upstream", "The model does not answer."))
        put(None)

    def _copy_lines(self, body, put, gone):
        from http.client import HTTPConnection, HTTPSConnection
        from urllib.parse import urlsplit

        url = urlsplit(self.base_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.hostname, url.port, timeout=UPSTREAM_S)
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + self.api_key}
        try:
            connection.request("POST", url.path + "/chat/completions", body, headers)
            answer, size = connection.getresponse(), 0
            if answer.status != 200:
                put(Refused(502, "bad_upstream", f"The model answered with status {answer.status}."))
                return
            while not gone.is_set():
                line = answer.readline(BODY_LIMIT)
                size += len(line)
                if not line or size > ANSWER_LIMIT:
                    return
                put(line)
        finally:
            connection.close()


# --- HTTP --------------------------------------------------------------------------------------------------


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def json(self):
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refused(400, "bad_request", "The body must be a JSON object.")
        return value

    def bearer(self):
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if kind.lower() == "bearer" else ""


async def read_request(reader):
    """The next request of a connection; None when the client is done."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
    except asyncio.LimitOverrunError:
        raise Refused(431, "headers_too_large", "The headers are too large.", close=True) from None
    except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError):  # noqa: UP041 (two types before 3.11)
        return None
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refused(400, "bad_request", "This is not HTTP/1.1.", close=True)
    headers = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or (name == "content-length" and name in headers):
            raise Refused(400, "bad_request", "A header is malformed.", close=True)
        headers[name] = value.strip()
    body = await read_body(reader, headers)
    return Request(words[0], words[1].split("?", 1)[0], headers, body)


async def read_body(reader, headers):
    if "transfer-encoding" in headers:
        raise Refused(411, "length_required", "Send a Content-Length.", close=True)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "bad_request", "Content-Length is not a number.", close=True)
    if len(length) > 9 or int(length) > BODY_LIMIT:
        raise Refused(413, "too_large", "The body is larger than 1 MB.", close=True)
    return await asyncio.wait_for(reader.readexactly(int(length)), IDLE_S) if int(length) else b""


def head_bytes(status, headers):
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer_bytes(status, content, kind="application/json", close=False):
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    headers = {"Content-Type": kind, "Content-Length": len(body)}
    if close:
        headers["Connection"] = "close"
    return head_bytes(status, headers) + body


# --- WebSocket (RFC 6455) ----------------------------------------------------------------------------------


class WebSocket:
    """The server's side of one connection: echoes text and binary messages, answers pings, closes politely."""

    TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

    def __init__(self, reader, writer, metrics):
        self.reader, self.writer, self.metrics = reader, writer, metrics

    @staticmethod
    def accept(key):
        from base64 import b64encode
        from hashlib import sha1

        return b64encode(sha1(key.encode("latin-1") + WS_GUID, usedforsecurity=False).digest()).decode()

    async def run(self):
        code = 1002
        try:
            code = await self._echo()
        except UnicodeDecodeError:
            code = 1007
        except OverflowError:
            code = 1009
        except ValueError:
            code = 1002
        except (asyncio.IncompleteReadError, OSError):
            return
        await self._send(self.CLOSE, struct.pack(">H", code))

    async def _echo(self):
        kind, parts = 0, bytearray()
        while True:
            final, opcode, data = await self._frame(BODY_LIMIT - len(parts))
            if opcode == self.CLOSE:
                return 1000
            if opcode == self.PING:
                await self._send(self.PONG, data)
            if opcode > 7:
                continue
            if (opcode == 0) != (kind != 0):
                raise ValueError("continuation without a message, or a message inside another")
            kind = kind or opcode
            parts += data
            if final:
                await self._message(kind, bytes(parts))
                kind, parts = 0, bytearray()

    async def _message(self, kind, data):
        if kind == self.TEXT:
            data.decode()
        self.metrics.message("ws", "in")
        await self._send(kind, data)
        self.metrics.message("ws", "out")

    async def _frame(self, room):
        first, second = await self.reader.readexactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
            raise ValueError("reserved bits, an unknown opcode, or a client that does not mask")
        if opcode > 7 and (size > 125 or not first & 0x80):
            raise ValueError("a control frame is short and whole")
        if size > 125:
            form = ">H" if size == 126 else ">Q"
            (size,) = struct.unpack(form, await self.reader.readexactly(struct.calcsize(form)))
        if size > room:
            raise OverflowError("message over 1 MB")
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        plain = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
        return bool(first & 0x80), opcode, plain

    async def _send(self, opcode, data):
        size = len(data)
        head = bytes([0x80 | opcode, size if size < 126 else 126 if size < 65_536 else 127])
        if size > 125:
            head += struct.pack(">H" if size < 65_536 else ">Q", size)
        self.writer.write(head + data)
        await self.writer.drain()


# --- the agent ---------------------------------------------------------------------------------------------


class Agent:
    def __init__(self, config):
        model = config.get("model") or {}
        self.config, self.faults = config, config.get("faults") or {}
        self.metrics = Metrics(config.get("metrics", "both"))
        self.echo = Echo(config.get("stream_delay_ms", 0) / 1000)
        self.model = Model(model["base_url"], model["api_key"], model["model"]) if model.get("base_url") else None
        self.started = time.monotonic()
        self.routes = {
            ("GET", "/health"): self.health,
            ("GET", "/metrics"): self.show_metrics,
            ("POST", "/webhook"): self.webhook,
            ("POST", "/v1/chat/completions"): self.chat,
            ("GET", "/ws"): self.websocket,
        }

    async def serve(self, reader, writer):
        """One connection, for as long as it lives."""
        try:
            if self.faults.get("hang"):
                await asyncio.sleep(1e9)
            while await self.serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):  # noqa: UP041 (two types before 3.11)
            pass  # the client went away or fell asleep
        finally:
            writer.close()

    async def serve_one(self, reader, writer):
        try:
            request = await read_request(reader)
            if request is None:
                return False
            close = request.headers.get("connection", "").lower() == "close"
            await self.dispatch(request, reader, writer)
        except Refused as refusal:
            close = refusal.close
            envelope = {"error": {"type": refusal.kind, "message": refusal.message}}
            writer.write(answer_bytes(refusal.status, envelope, close=close))
        await writer.drain()
        return not (close or writer.is_closing())

    async def dispatch(self, request, reader, writer):
        handler = self.routes.get((request.method, request.path))
        if handler is None:
            known = any(path == request.path for _, path in self.routes)
            raise Refused(405 if known else 404, "not_found", "There is nothing here.")
        await handler(request, reader, writer)

    def is_healthy(self):
        late = self.faults.get("healthy_after_s", 0)
        return not self.faults.get("never_healthy") and time.monotonic() - self.started >= late

    async def health(self, request, reader, writer):
        ok = self.is_healthy()
        components = {"agent": {"status": "ok" if ok else "starting"}}
        components.update({"channel:" + name: {"status": "configured"} for name in self.config.get("channels", {})})
        state = {"status": "ok" if ok else "starting", "uptime_s": int(time.monotonic() - self.started)}
        writer.write(answer_bytes(200 if ok else 503, dict(state, runtime={"components": components})))

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

        given = request.headers.get("x-webhook-signature", "")
        channels = self.config.get("channels", {}).values()
        secrets = [channel["secret"] for channel in channels if channel["kind"] == "webhook"]
        signatures = ["sha256=" + new(secret.encode(), request.body, sha256).hexdigest() for secret in secrets]
        return not secrets or any(same(given, signature) for signature in signatures)

    async def chat(self, request, reader, writer):
        token = self.config.get("token", "")
        if not token or not same(request.bearer(), token):
            raise Refused(401, "unauthenticated", "The bearer token is missing or wrong.")
        body = request.json()
        last_user_text(body)
        self.metrics.message("chat", "in")
        say("POST /v1/chat/completions")
        source = self.model or self.echo
        if body.get("stream"):
            await self.stream(source.chunks(body), writer)
        else:
            answer = await source.whole(body)
            self.count_usage(answer)
            writer.write(answer_bytes(200, answer))
        self.metrics.message("chat", "out")

    def count_usage(self, answer):
        usage = answer.get("usage")
        self.metrics.usage(count(usage, "prompt_tokens"), count(usage, "completion_tokens"))

    async def stream(self, chunks, writer):
        """Server-sent events; the status line waits for the first one, so that an early failure is still a 502."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "Transfer-Encoding": "chunked"}
        begun = False
        try:
            async for chunk in chunks:
                if not begun:
                    writer.write(head_bytes(200, headers))
                    begun = True
                self.count_usage(chunk)
                await self.send_event(writer, json.dumps(chunk))
        except Refused as refusal:
            if not begun:
                raise
            await self.send_event(writer, json.dumps({"error": {"type": refusal.kind, "message": refusal.message}}))
        finally:
            await chunks.aclose()
        if not begun:
            raise Refused(502, "bad_upstream", "The model said nothing.")
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
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + head_bytes(200, headers).split(b"\r\n", 1)[1])
        await WebSocket(reader, writer, self.metrics).run()
        writer.close()


# --- the process -------------------------------------------------------------------------------------------


async def leak(mb_per_s):
    hoard = []
    while True:
        hoard.append(b"x" * int(mb_per_s * 104_858))
        await asyncio.sleep(0.1)


async def crash(after_s):
    await asyncio.sleep(after_s)
    say("crashing, as asked")
    os._exit(1)


async def main(config):
    agent, loop, stop = Agent(config), asyncio.get_running_loop(), asyncio.Event()
    if agent.faults.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    listen = config["listen"]
    await asyncio.start_server(agent.serve, listen["host"], listen["port"], limit=HEAD_LIMIT, backlog=512)
    say(f"demo agent listens on {listen['host']}:{listen['port']}")
    tasks = []
    if agent.faults.get("crash_after_s") is not None:
        tasks.append(asyncio.ensure_future(crash(agent.faults["crash_after_s"])))
    if agent.faults.get("leak_mb_per_s"):
        tasks.append(asyncio.ensure_future(leak(agent.faults["leak_mb_per_s"])))
    await stop.wait()
    say("demo agent ends")
    os._exit(0)  # open streams and threads that wait for a model must not delay the end


def raise_file_limit():
    """Many idle WebSockets need many descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))


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
    raise_file_limit()
    try:
        asyncio.run(main(config))
    except OSError as error:
        say(f"demo agent: {error.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv))
