"""A Redis of the tests' own: Debian's server on a socket in a temporary folder, killed and gone afterwards."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from zcplatform.lib import clock

START_S = 20


def use_our_clock(monkeypatch) -> None:
    """The library asks the system's clock for the windows in Redis; here it asks the one that tests move."""
    ours = SimpleNamespace(time=lambda: clock.now().timestamp())
    monkeypatch.setattr("limits.storage.redis.time", ours)


class Server:
    """A Redis that can be killed, frozen and started again. It keeps nothing."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder, self.path = folder, folder / "redis.sock"
        lines = {"port": "0", "unixsocket": str(self.path), "dir": str(folder), "save": '""', **settings}
        self.config = folder / "redis.conf"  # a file: what is in the arguments every user can read
        self.config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Its address for ``ZCPLATFORM_REDIS_URL``, without a password."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Returns when it answers."""
        if (binary := shutil.which("redis-server")) is None:
            raise RuntimeError("Redis' server is not installed. On Debian and Ubuntu: apt-get install redis-server")
        self.process = subprocess.Popen([binary, self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Redis does not start: exit code {self.process.poll()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As the kernel would for want of memory; harmless when it was killed before."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """It still accepts connections, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as plain:
                plain.connect(str(self.path))
                plain.sendall(b"PING\r\n")
                return bool(plain.recv(16))  # or that it wants a password
        except OSError:
            return False


@contextmanager
def server(**settings: str) -> Iterator[Server]:
    """A started server; ``settings`` as in its configuration file, such as ``requirepass``."""
    folder = Path(tempfile.mkdtemp(prefix="zcrd-"))
    made = Server(folder, settings)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)
