"""Lock files that nobody else can hold.

To lock a file one needs no right but to open it. So each of ours has mode 0600, and nobody waits for one without end:
what would be a hanging worker is a fault that says so. One that others could have opened, as earlier versions made
them, is put aside for a new one, whatever locks strangers have on it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STEP_S = 0.02
ASIDE_S = 2.0  # what another of us puts aside in the same folder takes a moment
_LOCKS = Path("/proc/locks")


class Busy(Exception):
    """Another process has it."""


@contextmanager
def held(path: Path, *, busy: Exception, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only process inside, or raise ``busy``; see ``take``."""
    try:
        descriptor = take(path, wait_s=wait_s)
    except Busy:
        raise busy from None
    try:
        yield
    finally:
        os.close(descriptor)


def take(path: Path, *, wait_s: float = 0.0) -> int:
    """A descriptor of ``path``, which is made when absent, with the lock; it ends when that is closed, or with this
    process. Busy when another has it for longer than ``wait_s`` seconds. The folder must be ours; one is not made."""
    until = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        locked = _lock(descriptor)
        loose = _is_open_to_others(descriptor) and (locked or _strangers_have(descriptor))
        if locked and not loose and _is_still(path, descriptor):
            return descriptor
        again = _put_aside(path, descriptor) if loose else locked
        os.close(descriptor)
        if not again:
            _pause(path, until + ASIDE_S if loose else until)


def _put_aside(path: Path, descriptor: int) -> bool:
    """One at a time: else the second would remove what the first has made and locked. False while another is at it, or
    a stranger has a lock on a folder that was open to all."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(folder):
            return False
        if _is_still(path, descriptor):
            path.unlink()
        return True
    finally:
        os.close(folder)


def _pause(path: Path, until: float) -> None:
    if time.monotonic() >= until:
        raise Busy(f"{path} is locked by another process.")
    time.sleep(STEP_S)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open_to_others(descriptor: int) -> bool:
    return bool(os.fstat(descriptor).st_mode & 0o077)


def _is_still(path: Path, descriptor: int) -> bool:
    """False when another put the file aside between our opening and our lock."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _strangers_have(descriptor: int) -> bool:
    """Whether the kernel names as the holder somebody who is neither root nor this user, or has ended and left the
    lock to a child. Where it names nobody, it is one of us."""
    if not _LOCKS.exists():
        return False
    info = os.fstat(descriptor)
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    pids = [row[4] for row in map(str.split, _LOCKS.read_text().splitlines()) if file in row and row[1] == "FLOCK"]
    return any(not _is_one_of_us(pid) for pid in pids)


def _is_one_of_us(pid: str) -> bool:
    try:
        return Path("/proc", pid).stat().st_uid in (0, os.geteuid())
    except FileNotFoundError:
        return False
