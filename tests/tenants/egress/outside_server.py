"""What answers in the world outside (see ``outside.py``): ``outside_server.py LOG ADDRESS,... PORT...``.

HTTP on every port: GET says which address was asked, POST is an OpenAI-compatible model that repeats what it was
told, whole or streamed. UDP on port 53 of every address echoes. Whoever comes is written into LOG.
"""

import http.server
import json
import socket
import sys
import threading

HEAD = {"id": "c", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
seen = open(sys.argv[1], "a", buffering=1)  # noqa: SIM115 - open as long as the process


def note(kind, what, port):
    seen.write(json.dumps([kind, what, port]) + "\n")


def text_of(content):
    """A message's text, whether it is one or a list of parts; an agent may put its own words around the user's."""
    parts = content if isinstance(content, list) else [{"text": content}]
    return " ".join(" ".join(str(part.get("text", "")) for part in parts).split())


def whole(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE})


def streamed(text):
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    chunks = [{**HEAD, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    chunks.append({**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        self.say(f"outside {self.connection.getsockname()[0]}")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = " ".join(text_of(message["content"]) for message in asked["messages"] if message["role"] == "user")
        text = "model says: " + said[-2_000:]
        if asked.get("stream"):
            self.say(streamed(text), "text/event-stream")
        else:
            self.say(whole(text), "application/json")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client):
        note("tcp", request.getsockname()[0], self.server_port)
        super().finish_request(request, client)


def echo(address):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, 53))
    while True:
        data, sender = listener.recvfrom(2048)
        note("udp", address, 53)
        listener.sendto(data, sender)


def main(addresses, ports):
    servers = [Server(("0.0.0.0", int(port)), Answer) for port in ports]
    for address in addresses:
        threading.Thread(target=echo, args=(address,), daemon=True).start()
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    note("ready", "", 0)
    servers[0].serve_forever()


if __name__ == "__main__":
    main(sys.argv[2].split(","), sys.argv[3:])
