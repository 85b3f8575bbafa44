"""Reading and writing an attached stream of the engine: raw bytes after an HTTP upgrade, in frames."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

CHUNK = 65_536
HEADER = struct.Struct(">BxxxL")


class DeadlinePassed(Exception):
    """The stream was still open at the time limit."""


class Stream:
    """An attached stream, given what the SDK returns for ``socket=True``.

    The SDK hands out the raw socket behind a buffered reader that has read the HTTP head, and perhaps more: what an
    engine sends together with the head would be lost. So the buffered reader is read, and the socket only written.
    """

    def __init__(self, attached: Any) -> None:
        self._response = attached._response
        self._reader = self._response.raw._fp.fp
        self._socket: socket.socket = attached._sock

    def close(self) -> None:
        self._response.close()
        self._socket.close()

    def write(self, data: bytes, limit_s: float) -> None:
        """Send ``data`` and say that no more will come."""
        self._socket.settimeout(limit_s)
        self._socket.sendall(data)
        self._socket.shutdown(socket.SHUT_WR)

    def payload(self, deadline: float) -> Iterator[tuple[int, bytes]]:
        """(1 for stdout or 2 for stderr, bytes) until the other end closes; DeadlinePassed at ``deadline``, which is
        a moment of ``time.monotonic``."""
        while head := self._exactly(HEADER.size, deadline):
            which, left = HEADER.unpack(head)
            while left:
                if not (piece := self._some(min(left, CHUNK), deadline)):
                    return
                left -= len(piece)
                yield which, piece

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            if not (piece := self._some(size - len(data), deadline)):
                return b""
            data += piece
        return data

    def _some(self, size: int, deadline: float) -> bytes:
        if (left := deadline - time.monotonic()) <= 0:
            raise DeadlinePassed
        self._socket.settimeout(left)
        try:
            piece: bytes = self._reader.read1(size)
        except TimeoutError as error:
            raise DeadlinePassed from error
        return piece
