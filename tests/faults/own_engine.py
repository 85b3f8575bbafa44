"""A container engine of a test's own, with all that belongs to it below one folder: it may be killed like a host.

It leaves the packet filter alone (two engines would share its chains), so nothing about isolation is tested on it. And
it gets a bridge of its own: an engine that is told to have none removes ``docker0``, whoever's that is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 60
_ADD, _REMOVE, _SET_FLAGS = 0x89A0, 0x89A1, 0x8914  # SIOCBRADDBR, SIOCBRDELBR, SIOCSIFFLAGS of linux/sockios.h


class OwnEngine:
    """``socket`` is where it answers once started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "d.sock"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.bridge = f"zce{os.getpid() % 1_000_000}"
        _bridge(_ADD, self.bridge)
        (folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{folder}/c/root"\nstate = "{folder}/c/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{folder}/c.sock"\n'
        )

    def start(self) -> None:
        """Returns when it answers."""
        self._run("containerd", "--config", str(self.folder / "containerd.toml"))
        self._until(self.folder / "c.sock")
        paths = {"data-root": "data", "exec-root": "run", "pidfile": "d.pid", "containerd": "c.sock"}
        paths["config-file"] = "none.json"
        (self.folder / "none.json").write_text("{}")
        options = [f"--{name}={self.folder / path}" for name, path in paths.items()]
        self._run("dockerd", f"--host=unix://{self.socket}", f"--bridge={self.bridge}", "--iptables=false", *options)
        # It listens long before it has brought its containers back, and answers only then.
        self._until(self.socket, b"GET /_ping HTTP/1.0\r\n\r\n")

    def crash(self) -> None:
        """As when the power goes: the engine, what it started, and what that started, all at once."""
        roots = [process.pid for process in self.processes] + self._shims()
        # Each with all below it, and before any is gone: what has lost its parent can't be found, and a proxy that
        # outlived its engine would hold a port against the next.
        for pid in [pid for root in roots for pid in (root, *_below(root))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes.clear()
        _until_gone(self._shims)
        for path in ("d.sock", "c.sock", "d.pid", "run", "c/state"):  # what lies in memory on a host
            _unmount(self.folder / path)
            shutil.rmtree(self.folder / path, ignore_errors=True)
            with suppress(OSError):
                (self.folder / path).unlink()

    def end(self) -> None:
        """Crash for the last time."""
        self.crash()
        _down(self.bridge)
        _bridge(_REMOVE, self.bridge)

    def _run(self, *argv: str) -> None:
        env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        with (self.folder / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=log, env=env, start_new_session=True))

    def _until(self, path: Path, question: bytes = b"") -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.settimeout(START_S)
                probe.connect(str(path))
                if question:
                    probe.sendall(question)
                if not question or b" 200 " in probe.recv(64):
                    return
            assert all(p.poll() is None for p in self.processes), (self.folder / "log").read_text()[-2_000:]
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text()[-2_000:])

    def _shims(self) -> list[int]:
        """The keepers of its containers: they name its containerd's socket and nobody else's."""
        mark = f"{self.folder}/c.sock".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                line = path.read_bytes()
                if b"containerd-shim" in line and mark in line:
                    found.append(int(path.parent.name))
        return found


def _bridge(act: int, name: str) -> None:
    with socket.socket() as control:
        fcntl.ioctl(control, act, name.encode() + b"\0")


def _down(name: str) -> None:
    with socket.socket() as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh", name.encode(), 0) + bytes(14))


def _below(pid: int) -> list[int]:
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(path.parent.name))
    return children + [below for child in children for below in _below(child)]


def _until_gone(what: object) -> None:
    until = time.monotonic() + 10
    while callable(what) and what() and time.monotonic() < until:
        time.sleep(0.05)


def _unmount(folder: Path) -> None:
    """Lazily, the innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(str(folder))), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


@contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """A started engine; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="zce-"))
    engine = OwnEngine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.end()
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)
