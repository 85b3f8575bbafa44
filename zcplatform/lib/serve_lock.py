"""Who serves a home: one lock for each role, held until the process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from zcplatform.lib import locks
from zcplatform.lib.errors import Conflict, Misconfigured
from zcplatform.lib.home import run_folder

ROLES = ("web", "workers")


def take(home: Path, role: str) -> TextIO:
    """Take the home's lock for ``role``; Misconfigured when another process has it, and the file then says which."""
    path = run_folder(home) / f"serve-{role}.lock"
    try:
        file = os.fdopen(locks.take(path), "r+")
    except locks.Busy as error:
        holder = path.read_text().strip() or "unknown"
        raise Misconfigured(f"serve already runs the {role} of {home} (pid {holder}).") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(home: Path, role: str) -> int | None:
    """The process that took the lock for ``role`` last, if it still runs. Takes no lock itself: a ``serve`` that starts
    in that moment would be refused."""
    try:
        pid = int((run_folder(home) / f"serve-{role}.lock").read_text())
    except (OSError, ValueError):
        return None
    return pid if Path(f"/proc/{pid}").exists() else None


@contextmanager
def nobody_serves(home: Path) -> Iterator[None]:
    """Hold the locks of every role, so that ``serve`` can't start meanwhile; Conflict ``platform_running``."""
    with ExitStack() as held:
        for role in ROLES:
            try:
                held.enter_context(take(home, role))
            except Misconfigured as error:
                message = f"{error.message} Stop it first, such as by: systemctl stop zcplatform"
                raise Conflict(message, type="platform_running") from error
        yield
