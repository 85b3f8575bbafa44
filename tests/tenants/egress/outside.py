"""Stand-ins for the world outside, on this machine alone: a network namespace behind a veth pair.

It has a public-looking address (of a documentation network), the clouds' metadata address, addresses of private
networks, and a few more that must never be reached; each answers on some TCP ports and on UDP port 53, and writes
down who came. The host has a route to each of them and to nothing else of their networks.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMESPACE, LINK, PEER = "zct-outside", "zct-out0", "zct-out1"
HOST_SIDE, FAR_SIDE = "198.51.100.1", "198.51.100.2"
PUBLIC, OTHER_PUBLIC = "203.0.113.10", "203.0.113.11"
METADATA = "169.254.169.254"
FORBIDDEN = (METADATA, "10.99.77.10", "172.31.77.10", "192.168.77.10", "100.64.77.10", "198.18.77.10")
EVERYWHERE = (PUBLIC, OTHER_PUBLIC, *FORBIDDEN)
TCP_PORTS = (53, 80, 443, 8_000)
SERVER = Path(__file__).with_name("outside_server.py")


class Outside:
    def __init__(self, log: Path) -> None:
        self.log = log

    def seen(self) -> list[tuple[str, str, int]]:
        """(kind, what, port) of everything that arrived so far."""
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@contextmanager
def outside() -> Iterator[Outside]:
    """One at a time on a machine: the addresses are the same for everybody."""
    with Path(tempfile.gettempdir(), "zct-outside.lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _clear()
        server = None
        try:
            _lay()
            log = Path(folder, "seen")
            command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-I", str(SERVER), str(log)]
            server = subprocess.Popen([*command, ",".join(EVERYWHERE), *map(str, TCP_PORTS)])
            until = time.monotonic() + 30
            while not (log.exists() and "ready" in log.read_text()):
                assert server.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            yield Outside(log)
        finally:
            if server is not None:
                server.kill()
                server.wait()
            _clear()


def _lay() -> None:
    ip("netns", "add", NAMESPACE)
    ip("link", "add", LINK, "type", "veth", "peer", "name", PEER, "netns", NAMESPACE)
    ip("addr", "add", f"{HOST_SIDE}/30", "dev", LINK)
    ip("link", "set", LINK, "up")
    inside = ("-n", NAMESPACE)
    ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "addr", "add", f"{FAR_SIDE}/30", "dev", PEER)
    ip(*inside, "link", "set", PEER, "up")
    ip(*inside, "route", "add", "default", "via", HOST_SIDE)
    for address in EVERYWHERE:
        ip(*inside, "addr", "add", f"{address}/32", "dev", "lo")
        ip("route", "add", f"{address}/32", "via", FAR_SIDE, "dev", LINK)


def _clear() -> None:
    """What an earlier run that was killed has left behind goes as well; the routes go with the link."""
    for words in (("link", "del", LINK), ("netns", "del", NAMESPACE)):
        subprocess.run(["ip", *words], check=False, capture_output=True, timeout=20)
