"""A unix socket in front of a real engine or a real Caddy, at which a test cuts the line.

What stands behind stays the real thing: only the way to it fails. ``down`` refuses, ``hang`` takes a call and never
answers, ``lose`` passes a call on, waits until it was answered and drops the answer, ``cut`` drops the call itself.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HEAD_MAX = 65_536


@dataclass
class Fault:
    """What happens to the next ``times`` calls whose first line matches ``pattern``."""

    what: str
    pattern: re.Pattern[bytes]
    times: int


@dataclass
class Wire:
    """Stands at ``front``; what it passes on goes to ``back``. ``calls`` are the first lines it saw."""

    front: Path
    back: Path
    calls: list[str] = field(default_factory=list)
    hit: int = 0
    """How many calls a fault has met."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.up()

    def up(self) -> None:
        if self._listener is not None:
            return
        self.front.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.front))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        """Nobody gets through, and who was through is cut off."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def fail(self, what: str, pattern: str = "", *, times: int = 1_000_000) -> None:
        """``pattern`` is searched in the first line, such as ``POST /v1.41/containers/create``."""
        assert what in ("hang", "lose", "cut"), what
        with self._lock:
            self.hit, self._fault = 0, Fault(what, re.compile(pattern.encode()), times)

    def heal(self) -> None:
        with self._lock:
            self._fault = None
        self.up()

    @contextmanager
    def failing(self, what: str, pattern: str = "", *, times: int = 1_000_000) -> Iterator[None]:
        if what == "down":
            self.down()
        else:
            self.fail(what, pattern, times=times)
        try:
            yield
        finally:
            self.heal()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(str(self.back))
        except OSError:
            near.close()
            return
        with self._lock:
            self._open |= {near, far}
        lost = threading.Event()
        threading.Thread(target=self._answers, args=(far, near, lost), daemon=True).start()
        with suppress(OSError):
            self._requests(near, far, lost)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _requests(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> None:
        while data := near.recv(HEAD_MAX):
            what = self._meets(data)
            if what == "hang":
                while near.recv(HEAD_MAX):
                    pass
                return
            if what == "cut":
                near.close()
                return
            if what == "lose":
                lost.set()
            far.sendall(data)

    def _answers(self, far: socket.socket, near: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(HEAD_MAX):
                if lost.is_set():
                    break
                near.sendall(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _meets(self, data: bytes) -> str:
        """The fault that this piece of a request meets; pieces of a body are no first line."""
        line = data.split(b"\r\n", 1)[0]
        if not line.endswith(b" HTTP/1.1"):
            return ""
        with self._lock:
            self.calls.append(line.decode("latin-1"))
            fault = self._fault
            if fault is None or fault.times <= 0 or not fault.pattern.search(line):
                return ""
            fault.times, self.hit = fault.times - 1, self.hit + 1
            return fault.what
