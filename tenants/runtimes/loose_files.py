"""Files that take space and have no name any more: open, or mapped, and unlinked. Standard library only.

    python3 loose_files.py DEVICE UID

prints what those of one uid take, of the processes that it can see and look into. The last line is ``done``.
"""

# ruff: noqa: PTH116, PTH123, PTH208 (it runs where the program is not installed, and paths of the kernel are plain)

import contextlib
import os
import random
import stat
import sys
import time

PROC = "/proc"
SHM = "/proc/sysvipc/shm"
LOOK_S = 1.0
"""So long one uid's descriptors are looked at: a hundred threads that share eight thousand of them are a million."""


def held(uids, device=None, proc=PROC):
    """Bytes on the disk by uid, of the regular files that have no name and belong to that uid, each once; on one
    device where one is given. Whoever holds them is looked at by the uid that the kernel tells, since a process can
    hide who owns its folder in ``proc``. Of one with very many descriptors a part is looked at, another each time."""
    found: dict[int, int] = dict.fromkeys(uids, 0)
    left = dict.fromkeys(uids, LOOK_S)
    seen: set[tuple[int, int]] = set()
    pids = [pid for pid in os.listdir(proc) if pid.isdigit()]
    random.shuffle(pids)  # so that nobody knows where we shall not get to
    for pid in pids:
        uid = uid_of(f"{proc}/{pid}")
        if uid in found and left[uid] > 0:
            began = time.monotonic()
            for file in open_files(f"{proc}/{pid}", began + left[uid]):
                if file.st_uid in found and device in (None, file.st_dev) and (file.st_dev, file.st_ino) not in seen:
                    seen.add((file.st_dev, file.st_ino))
                    found[file.st_uid] += file.st_blocks * 512
            left[uid] -= time.monotonic() - began
    return found


def uid_of(process):
    """Of its effective user; None when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"{process}/status", "rb") as file:
        return next(int(line.split()[2]) for line in file if line.startswith(b"Uid:"))
    return None


def open_files(process, until):
    """What its threads hold open or mapped that has no name; threads need not share their descriptors. What is not
    reached before ``until``, of the monotonic clock, is left out."""
    threads, mapped = listed(f"{process}/task"), f"{process}/map_files"
    # Once the first thread has ended, what is mapped is seen by another, under its own number.
    places = [mapped] if listed(mapped) else [f"{process}/../{thread}/map_files" for thread in threads]
    places += [f"{process}/task/{thread}/fd" for thread in threads]
    for place in places:
        for name in listed(place):
            if time.monotonic() > until:
                return
            with contextlib.suppress(OSError):
                file = os.stat(f"{place}/{name}")
                if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                    yield file


def listed(folder):
    """Its entries; none of one that is gone or closed to us."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def shared_memory(uids, table=SHM):
    """Bytes by uid of System V shared memory that is present: it stays when its maker ends."""
    found: dict[int, int] = dict.fromkeys(uids, 0)
    with contextlib.suppress(OSError, ValueError), open(table) as file:
        names = file.readline().split()
        for line in file:
            row = dict(zip(names, map(int, line.split()), strict=False))
            if row["cuid"] in found:
                found[row["cuid"]] += row.get("rss", row["size"])
    return found


if __name__ == "__main__":
    wanted = int(sys.argv[2])
    sys.stdout.write(f"{held([wanted], int(sys.argv[1]))[wanted]}\ndone\n")
