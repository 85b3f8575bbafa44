"""Runs the real ``serve`` on a home of its own, as a process, and looks at what it started.

Run as a file, it is ``manage.py`` with a quicker pulse and a shorter lease, so that a silent cluster, or a supervisor
that is gone, is found in seconds.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests import slot, zygote
from tests.architecture import ROOT
from tests.backups.place import Place

MODULE = "tests.zcplatform.serving"
LIMIT_S = 60
_LEAVE_NO_TRACE = {"CADDY_HTTPS", "CADDY_LISTEN", "PORT", "ROUTER", "WEB_WORKERS"}
"""Settings that a bootstrap makes nothing of."""


def wait_for(what: Callable[[], Any], why: str) -> Any:
    """The first true answer of ``what``; the limit only ends a test that would hang."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never happened: {why}")


def children_of(pid: int) -> list[int]:
    """The processes that ``pid`` started and that still run; zombies don't count."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return sorted(found)


def tree_of(pid: int) -> list[int]:
    """All descendants of ``pid``."""
    below = children_of(pid)
    return below + [grandchild for child in below for grandchild in tree_of(child)]


def runs(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Home:
    """A bootstrapped installation in ``folder``; ``extra`` are settings."""

    limit_s = LIMIT_S
    """For one command."""

    def __init__(self, folder: Path, **extra: str) -> None:
        self.folder = folder
        dropped = {"ZCPLATFORM_DATABASE_URL", "ZC_TEST_HOME"}
        self.env = {name: value for name, value in os.environ.items() if name not in dropped} | {
            "ZCPLATFORM_HOME": str(folder),
            "ZCPLATFORM_CONFIG": str(folder / "platform.toml"),
            "ZCPLATFORM_RUNTIME": "process",
            "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS": "1",
            "ZCPLATFORM_RUN_WORKERS": "2",
            "ZCPLATFORM_WEB_WORKERS": "1",
            "DJANGO_SETTINGS_MODULE": "zcplatform.settings",
            "PYTHONPATH": str(ROOT),
        }
        self.env |= slot.APART | slot.SERVED
        self.env |= {f"ZCPLATFORM_{name}": value for name, value in extra.items()}
        if extra.keys() <= _LEAVE_NO_TRACE and not (folder / "platform.toml").exists():
            shutil.copytree(_bootstrapped(), folder, dirs_exist_ok=True)
            return
        made = self.manage("bootstrap", "--admin-email", "ops@example.test")
        assert made.returncode == 0, made.stderr

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return zygote.run(MODULE, *arguments, env=self.env, cwd=self.folder, timeout=self.limit_s)

    def give(self, cluster: str, name: str, *, seconds: float = 0, act: str = "write") -> Path:
        """Have ``cluster`` do an ``act`` of ``tests.zcplatform.work``; returns the file that it writes."""
        out, folder = self.folder / name, self.folder / "todo"
        folder.mkdir(exist_ok=True)
        order = folder / f".{name}"
        order.write_text(json.dumps({"cluster": cluster, "out": str(out), "seconds": seconds, "act": act}))
        order.rename(folder / name)
        return out

    @contextmanager
    def serve(self, *arguments: str) -> Iterator[Serve]:
        serve = Serve(self, arguments)
        try:
            yield serve
        finally:
            serve.kill()


@cache
def _bootstrapped() -> Path:
    """A home that is bootstrapped once, to be copied: keys, database and id are those of all its copies."""
    folder = Path(tempfile.mkdtemp(prefix="zch-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Place(folder / "home").run("bootstrap", "--admin-email", "ops@example.test")
    assert made.returncode == 0, made.stderr
    return folder / "home"


class Serve:
    """A running ``serve``."""

    def __init__(self, home: Home, arguments: tuple[str, ...]) -> None:
        self.home = home
        self._seen: set[int] = set()
        self.log = home.folder / "serve.log"
        with self.log.open("w") as log:
            self.process = zygote.Process(
                MODULE, ("serve", *arguments), env=home.env, cwd=home.folder, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, line: str) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.log.read_text()}")
        return line in self.log.read_text()

    def wait_until_said(self, *lines: str) -> None:
        for line in lines:
            wait_for(lambda line=line: self.said(line), f"serve says “{line}”")

    def main_of(self, cluster: str) -> int:
        """The first process of the cluster."""

        def look() -> int:
            wanted = f"zcplatform.cluster\0{cluster}\0".encode()
            found = [p for p in children_of(self.pid) if wanted in Path(f"/proc/{p}/cmdline").read_bytes()]
            return found[0] if found else 0

        return int(wait_for(look, f"{cluster} runs"))

    def workers_of(self, cluster: str) -> list[int]:
        """The cluster's workers, known by what they wrote on its board."""
        below = tree_of(self.main_of(cluster))
        board = self.home.folder / "run" / "board" / cluster
        return [int(path.name) for path in board.iterdir() if int(path.name) in below]

    def everything(self) -> list[int]:
        """Every process below it, now."""
        below = tree_of(self.pid)
        self._seen.update(below)
        return below

    def kill(self) -> None:
        """End it and whatever it left behind, should a test have failed half-way."""
        for pid in {self.pid, *self.everything(), *self._seen}:
            with suppress(OSError):
                if b"zcplatform" in Path(f"/proc/{pid}/cmdline").read_bytes() or pid == self.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def main() -> None:
    """``manage.py`` with a pulse that is asked for twice a second and given up after two, and a lease of ten."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zcplatform.settings")
    django.setup()
    from zcplatform import leader, pulse, ticker
    from zcplatform.cli import main as manage

    pulse.PATIENCE_S = 2.0
    leader.LEASE_S, leader.RENEW_EVERY_S = 10.0, 0.5
    ticker.ASK_EVERY_S = 0.5
    ticker.DUE_RUNS, ticker.DUE_RUNS_EVERY_S = "tests.zcplatform.work.hand_out", 0.1
    manage()


if __name__ == "__main__":
    main()
