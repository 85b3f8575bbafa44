"""Real processes for tests: a fork that runs one function, and is killed where a failpoint says so."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from django.db import connections

from zcplatform.lib import failpoints


def start(act: Callable[[], object], failpoint: str = "") -> int:
    """Run ``act`` in a child process with ``failpoint`` armed; returns its process id. Exit code 3: it raised."""
    connections.close_all()
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        with failpoints.armed(failpoint):
            act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The child's exit code; minus the signal's number when one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(act: Callable[[], object], failpoint: str = "") -> int:
    return wait(start(act, failpoint))


KILLED = -signal.SIGKILL
