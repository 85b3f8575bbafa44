"""Kills a family of processes: those that bear a mark in their environment, and whatever descends from one.

Standard library only: the platform imports it where it sees the engine's processes, and sends its text to a helper
container where it does not. An engine has no call that ends what ``exec`` began.

    python3 kill_script.py NAME=value
"""

# ruff: noqa: PTH123, PTH208 (as small as it can be: it is sent as an argument)

import os
import signal
import sys
import time

PATIENCE_S = 5


def table():
    """{pid: (parent, session)} of every process that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := read(name, "stat")):
            # The second field is the program's name in brackets and may hold anything, brackets too.
            state, parent, _, session, *rest = stat.rpartition(b")")[2].split()
            # One whose first thread has ended is shown as a zombie too, and its other threads run.
            if state not in (b"Z", b"X") or int(rest[13]) > 1:
                found[int(name)] = (int(parent), int(session))
    return found


def read(pid, what):
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read()
    except OSError:  # gone, or not ours to read
        return b""


def environment(pid):
    """Its variables. The first thread shows none once it has ended; then the others do."""
    if shown := read(pid, "environ"):
        return shown.split(b"\0")
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return b"\0".join(read(pid, f"task/{thread}/environ") for thread in threads).split(b"\0")


def family(mark):
    """The pids that bear ``mark`` (``NAME=value``), their sessions and their descendants; never our own."""
    everybody = table()
    everybody.pop(os.getpid(), None)
    found = {pid for pid in everybody if mark.encode() in environment(pid)}
    grown = True
    while grown:
        more = {pid for pid, kin in everybody.items() if pid not in found and found.intersection(kin)}
        found |= more
        grown = bool(more)
    return found


def kill_family(mark, patience_s=PATIENCE_S):
    """SIGKILL again and again until a look finds none. Returns (how many were seen, is nothing left)."""
    seen = set()
    deadline = time.monotonic() + patience_s
    while pids := family(mark):
        seen |= pids
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        if time.monotonic() > deadline:
            return len(seen), False
        time.sleep(0.01)
    return len(seen), True


if __name__ == "__main__":
    sys.stdout.write(f"{kill_family(sys.argv[1])[0]}\ndone\n")
