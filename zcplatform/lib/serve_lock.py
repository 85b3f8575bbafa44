"""Who serves a home: one lock for each role, held until the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from zcplatform.lib.errors import Conflict, Misconfigured

ROLES = ("web", "workers")


def take(home: Path, role: str) -> TextIO:
    """Take the home's lock for ``role``; Misconfigured when another process has it, and the file then says which."""
    path = home / "run" / f"serve-{role}.lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise Misconfigured(f"serve already runs the {role} of {home} (pid {holder}).") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


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
