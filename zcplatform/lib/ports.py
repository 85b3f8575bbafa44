"""The TCP ports of this host: whether one is free, and who listens where."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"


def is_free(port: int) -> bool:
    """Whether an agent could listen at this port of the loopback, now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listeners() -> Mapping[int, set[int]]:
    """The uids that listen at each port, whatever the address. Who holds a port and does not listen is not seen."""
    found: dict[int, set[int]] = defaultdict(set)
    for table in _TABLES:
        if table.exists():
            for row in map(str.split, table.read_text().splitlines()[1:]):
                if row[3] == _LISTENING:
                    found[int(row[1].rpartition(":")[2], 16)].add(int(row[7]))
    return found
