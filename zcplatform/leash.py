"""Ties a program to the process that started it: when the starter ends, however it ends, the kernel kills it.

Run as a file, it is a launcher: ``leash.py PARENT_PID PROGRAM ARGUMENT...`` ties itself and becomes the program.
It imports nothing of ours, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing import util

PR_SET_PDEATHSIG = 1


def hold(parent: int) -> None:
    """Have this process killed when ``parent`` ends; it ends at once when that has already happened."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


def hold_children() -> None:
    """Tie every ``multiprocessing`` child made from now on to its maker, and so on down the tree.

    Only those: a program started by ``subprocess``, such as an agent of the process runtime, outlives the worker.
    """
    util.register_after_fork(hold_children, _hold_child)


def _hold_child(_: object) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        hold(parent.pid)


if __name__ == "__main__":
    hold(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - a list of arguments, no shell
