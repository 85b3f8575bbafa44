"""Real processes without the second that each would spend on loading libraries: forks of one that has loaded them.

It has loaded nothing of ours and no settings, so what it starts reads its environment, sets Django up and works as if
``python -m`` had started it. Each is a process of its own, which is killed, or kills itself, like any other.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from typing import IO, Any

from tests.architecture import ROOT

MODULE = "tests.zygote"
LIBRARIES = """
    aiohttp asyncio concurrent.futures.thread croniter cryptography.hazmat.primitives.ciphers.aead dj_database_url
    django.contrib.admin django.contrib.admin.apps django.core.files.uploadhandler django.core.handlers.asgi
    django.core.management django.core.management.commands.migrate django.core.serializers.json
    django.db.backends.sqlite3.base django.db.migrations.executor django.db.models.sql django.forms
    django.middleware.csrf django.template.defaulttags django.template.loader_tags django.urls
    django.utils.autoreload django.views.debug django.views.generic docker docker.models.containers httpcore httpx
    jwt limits nacl.secret prometheus_client prometheus_client.multiprocess pydantic segno sqlite3 structlog
    structlog.dev tomli_w tomllib unittest.mock wsgiref.simple_server xml.dom.minidom zoneinfo
"""
LONGEST = 1 << 20


class Process:
    """What ``subprocess.Popen`` is to a program, for ``python -m MODULE ARGUMENT...`` in ``cwd`` with ``env``."""

    def __init__(
        self, module: str, argv: tuple[str, ...], *, env: dict[str, str], cwd: Any = ROOT,
        stdout: IO[Any] | int = subprocess.DEVNULL, stderr: IO[Any] | int = subprocess.DEVNULL,
    ) -> None:  # fmt: skip
        self.args = (module, *argv)
        self.returncode: int | None = None
        self._told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps({"module": module, "argv": argv, "env": env, "cwd": str(cwd)}).encode()
        with theirs, open(os.devnull, "r+") as nothing:
            out, err = (nothing if file == subprocess.DEVNULL else file for file in (stdout, stderr))
            files = [file if isinstance(file, int) else file.fileno() for file in (theirs, nothing, out, err)]
            socket.send_fds(_control(), [order], files)
        self.pid = int(self._hear())

    def _hear(self) -> bytes:
        if told := self._told.recv(100):
            return told
        raise AssertionError("the process that starts the others is gone")

    def poll(self) -> int | None:
        """The exit code, minus the signal's number when one ended it; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._hear())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def run(
    module: str, *argv: str, env: dict[str, str], timeout: float, cwd: Any = ROOT
) -> subprocess.CompletedProcess[str]:
    """To its end, with what it printed; killed after ``timeout`` seconds, which is an error."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Process(module, argv, env=env, cwd=cwd, stdout=out, stderr=err)
        try:
            process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess([module, *argv], process.wait(), out.read(), err.read())


def _control() -> socket.socket:
    """The line to the one that starts them, which ends when this process does. A fork of this process gets its own."""
    return _started(os.getpid())


@cache
def _started(by: int) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ZC", "DJANGO_"))}
    with theirs:
        argv = [sys.executable, "-m", MODULE, str(theirs.fileno())]
        started = subprocess.Popen(argv, cwd=ROOT, env=env, pass_fds=[theirs.fileno()])
    atexit.register(_end, ours, started, by)
    return ours


def _end(control: socket.socket, started: subprocess.Popen[bytes], by: int) -> None:
    if os.getpid() == by:  # a fork has the line too, and may end long before
        control.close()
        started.wait()


# --- the process that starts the others ------------------------------------------------------------------------------


def _attend(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Start what is ordered, tell how it ended. Returns None at the end, and in each child its order and its files."""
    waiting: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for ready in select.select([control, *waiting], [], [])[0]:
            if ready is not control:
                _tell_the_end(ready, *waiting.pop(ready))
                continue
            order, files, *_ = socket.recv_fds(control, LONGEST, 4)
            if not order:
                return None
            pid = os.fork()
            if not pid:
                return json.loads(order), files[1:]
            for number in files[1:]:
                os.close(number)
            told = socket.socket(fileno=files[0])
            told.send(str(pid).encode())
            waiting[os.pidfd_open(pid)] = (pid, told)


def _tell_the_end(pidfd: int, pid: int, told: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    with told, suppress(OSError):  # nobody may be interested any more
        told.send(str(code).encode())


def _become(order: dict[str, Any], files: list[int]) -> None:
    """The program that is ordered, in this process, with no file open but its own three."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1 << 16)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = [order["module"], *order["argv"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    for name in LIBRARIES.split():
        importlib.import_module(name)
    gc.freeze()  # so that a collection in a child does not copy all of it
    control = socket.socket(fileno=int(sys.argv[1]))
    if child := _attend(control):
        control.detach()
        _become(*child)


if __name__ == "__main__":
    main()
