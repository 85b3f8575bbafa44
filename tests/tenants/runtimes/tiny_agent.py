"""The agent of the runtimes' contract: argv is ``behaviour host port marker``. Standard library only, one thread.

``serve`` answers on its port; ``exit-3`` ends at once; ``stubborn`` serves and ignores SIGTERM; ``leak`` grows.
"""

import json
import os
import signal
import socket
import sys
import time


def leak():
    kept = []
    while True:
        kept.append(os.urandom(1024) * 1024)
        time.sleep(0.005)


def answer(path):
    if path == "/exit":
        os._exit(5)
    if path == "/who":
        return json.dumps(
            {
                "uid": os.getuid(),
                "gid": os.getgid(),
                "groups": os.getgroups(),
                "cwd": os.getcwd(),
                "env": {**os.environ},
            }
        )
    return "ok"


def serve(host, port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(64)
    while True:
        connection = listener.accept()[0]
        with connection:
            request = connection.recv(4096).decode().split(" ")
            body = answer(request[1] if len(request) > 1 else "/").encode()
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def main(behaviour, host, port):
    print("hello from stderr", file=sys.stderr, flush=True)
    time.sleep(0.05)
    sys.stdout.buffer.write(b"caf\xe9\n" + b"".join(b"line %d\n" % n for n in range(1, 6)))
    sys.stdout.flush()
    if behaviour == "exit-3":
        sys.exit(3)
    # As process 1 of a container there is no default action: without a handler SIGTERM would be ignored.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else lambda *_: os._exit(0))
    leak() if behaviour == "leak" else serve(host, int(port))


main(*sys.argv[1:4])
