"""What the process runtime keeps of one agent: a folder below ``HOME/run``, named by the tenant's public id.

``spec.json`` is ours (what to run, and for whom), ``state.json`` and ``log*`` are the shim's. The platform alone
can enter it. Nobody but the verbs of the runtime, one at a time, writes here.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from tenants.folders import storage_errors
from tenants.runtimes import shim_tree
from zcplatform.lib import locks
from zcplatform.lib.errors import DependencyTimeout, RunFailed
from zcplatform.lib.home import run_folder

LOCK_WAIT_S = 60
TAIL_MAX = 4_194_304
PART_MAX = 1_048_576
NO_TIME = b"- "
_STAMP = re.compile(rb"^\x1e\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", re.MULTILINE)


class RunDir:
    def __init__(self, tenant: str) -> None:
        """RunFailed ``spec_drift`` when the tenant is no UUID: such an agent was never ours."""
        with suppress(ValueError):
            if str(UUID(tenant)) == tenant:
                self.root = Path(settings.HOME) / "run"
                self.path = self.root / tenant
                return
        raise RunFailed("An agent of the process runtime is known by its tenant's id.", type="spec_drift")

    @classmethod
    def all(cls) -> Iterator[RunDir]:
        with suppress(FileNotFoundError):
            for path in sorted((Path(settings.HOME) / "run").iterdir()):
                if path.is_dir():
                    with suppress(RunFailed):
                        yield cls(path.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One verb at a time per agent, in all processes; DependencyTimeout after a minute."""
        with storage_errors(self.path):
            descriptor = self._lock()
        try:
            yield
        finally:
            if not self.path.exists():
                self._lock_file.unlink(missing_ok=True)
            os.close(descriptor)

    @property
    def _lock_file(self) -> Path:
        return self.path.with_suffix(".lock")

    def _lock(self) -> int:
        run_folder(self.root.parent)
        try:
            return locks.take(self._lock_file, wait_s=LOCK_WAIT_S)
        except locks.Busy:
            raise DependencyTimeout("Another act on this agent has not ended.") from None

    def record(self) -> dict[str, Any] | None:
        """What ``create`` wrote; None when there is nothing."""
        return self._read("spec.json")

    def ours(self) -> dict[str, Any] | None:
        """The same, but None too when it belongs to another installation."""
        record = self.record()
        return record if record and record.get("instance") == settings.INSTANCE else None

    def write_record(self, record: dict[str, Any]) -> None:
        with storage_errors(self.path):
            self.path.mkdir(exist_ok=True, mode=0o700)
            self._write("spec.json", json.dumps(record))

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f"{name}.tmp"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        except OSError:  # a full disk does not get half a file more
            temporary.unlink(missing_ok=True)
            raise

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            value = json.loads((self.path / name).read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def state(self) -> dict[str, Any]:
        """What the shim last wrote; empty when it never ran, or when that makes no sense: then the world tells."""
        state = self._read("state.json") or {}
        return state if _is_sound(state) else {}

    def delete(self) -> None:
        with storage_errors(self.path), suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def end(self, grace_s: float) -> None:
        """End the shim and everything below it; returns when nothing is left. Nothing running is success."""
        state = self.state()
        if alive(state):
            with storage_errors(self.path):
                self._write("grace", str(grace_s))
            pid, start = state["shim"]
            tree = [(child, shim_tree.start_time(child)) for child in shim_tree.descendants(pid)]
            if not end_process(pid, start, patience_s=grace_s + shim_tree.KILL_S + 2):
                for process in tree:
                    send(*process, signal.SIGKILL)
        self.clear_leftovers()

    def clear_leftovers(self) -> None:
        """Kill what a shim that was itself killed left behind; a process that only has the same pid is let be."""
        state = self.state()
        if not state or state["boot"] != shim_tree.boot_id() or alive(state):
            return
        deadline = time.monotonic() + shim_tree.KILL_S
        while (left := leftovers(state)) and time.monotonic() < deadline:
            for process in left:
                send(*process, signal.SIGKILL)
            time.sleep(0.005)

    def tail(self, lines: int, *, times: bool = False) -> bytes:
        """The last lines of the log across its files; at most 4 MiB are read."""
        data = b""
        for number in range(max(1, settings.LOG_MAX_FILES)):
            with suppress(FileNotFoundError), (self.path / (f"log.{number}" if number else "log")).open("rb") as file:
                position = file.seek(0, os.SEEK_END)
                while position > 0 and data.count(b"\n") <= lines and len(data) < TAIL_MAX:
                    size = min(65536, position)
                    position = file.seek(position - size)
                    data = file.read(size) + data
        if not data or lines <= 0:
            return b""
        return told(b"".join(line + b"\n" for line in data.rstrip(b"\n").split(b"\n")[-lines:]), times=times)

    def after(self, mark: str, *, times: bool = False) -> tuple[bytes, str]:
        """The whole lines after ``mark`` (``inode:offset`` in one of the log's files), and the mark behind them."""
        files = list(self._log_files())
        if not files or not mark:
            return b"", f"{files[-1][0]}:{files[-1][1].stat().st_size}" if files else mark
        inode, _, offset = mark.partition(":")
        known = [number for number, found in enumerate(files) if str(found[0]) == inode]
        data, mark = _lines_after(files[known[0] if known else 0 :], int(offset) if known else 0)
        return told(data, times=times), mark

    def _log_files(self) -> Iterator[tuple[int, Path]]:
        """Inode and path of the log's files, the oldest first."""
        for number in range(max(1, settings.LOG_MAX_FILES) - 1, -1, -1):
            path = self.path / (f"log.{number}" if number else "log")
            with suppress(FileNotFoundError):
                yield path.stat().st_ino, path


def told(data: bytes, *, times: bool) -> bytes:
    """The lines of a log without the marks of their times, or each with its time. A hyphen stands where a line has
    none: it is from a keeper of an earlier version, or the rest of a line that was cut."""
    if not times:
        return _STAMP.sub(b"", data)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    parts = ((line[1:] if _STAMP.match(line) else NO_TIME + line) + b"\n" for line in lines)
    return b"".join(parts)


def _lines_after(files: list[tuple[int, Path]], position: int) -> tuple[bytes, str]:
    """A line may go on in the next file, so the files are read as one text."""
    data, spans = b"", []
    for inode, path in files:
        start = position if path.stat().st_size >= position else 0  # a new file may have a dead one's inode
        with path.open("rb") as file:
            file.seek(start)
            piece = file.read(PART_MAX - len(data))
        data, position = data + piece, 0
        spans.append((inode, start, len(piece)))
    whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == PART_MAX else 0)
    left = whole
    for span in spans:
        if left <= span[2]:
            break
        left -= span[2]
    return data[:whole], f"{span[0]}:{span[1] + left}"


def _is_sound(state: dict[str, Any]) -> bool:
    pairs = [state.get("shim"), *(state.get("strays") or [])] if isinstance(state.get("strays"), list) else [None]
    numbers = (isinstance(pair, list) and [type(n) for n in pair] == [int, int] for pair in pairs)
    return isinstance(state.get("boot"), str) and all(numbers)


def alive(state: dict[str, Any]) -> bool:
    """True while the very shim that wrote ``state`` runs: boot, pid and start time must all agree."""
    if not state or state["boot"] != shim_tree.boot_id():
        return False
    pid, start = state["shim"]
    return shim_tree.start_time(pid) == start


def send(pid: int, start: int | None, number: signal.Signals) -> bool:
    """Signal the process with this pid and start time, and no other; False when it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if start is None or shim_tree.start_time(pid) != start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def end_process(pid: int, start: int, *, patience_s: float) -> bool:
    """SIGTERM, wait for the end, SIGKILL when it does not come; True when it ended by itself."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not send(pid, start, signal.SIGTERM):
            return True
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if ended.poll(patience_s * 1000):
            return True
        send(pid, start, signal.SIGKILL)
        ended.poll(1000)
        return False
    finally:
        os.close(descriptor)


def leftovers(state: dict[str, Any]) -> list[tuple[int, int]]:
    """Pid and start time of every process of a dead shim's session, and of the strays that it wrote down.

    The kernel does not hand out a pid again while a session of that number lives: if some other process has the
    shim's pid now, its session was empty."""
    number, _ = state["shim"]
    found = [(pid, start) for pid, start in state["strays"] if shim_tree.start_time(pid) == start]
    if shim_tree.start_time(number) is None:
        members = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        ours = [(pid, shim_tree.start_time(pid)) for pid in members if shim_tree.session(pid) == number]
        found += [(pid, start) for pid, start in ours if start is not None]
    return found
