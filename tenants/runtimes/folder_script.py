"""What a helper container does to the one tenant folder that is mounted at ``/tenant``. Standard library only.

    python3 folder_script.py prepare|write|read|purge|size UID

``write`` reads {name: base64} from stdin, ``read`` prints it. Everything is reached by directory descriptors with
O_NOFOLLOW: a tenant may have planted any link in ``data``, and none is followed. The last line is ``done``.
"""

# ruff: noqa: PTH208 (descriptors, not paths)

import base64
import contextlib
import json
import os
import secrets
import stat
import sys
import time

TOP = "/tenant"
PARTS = ("config", "data")
FILE_MAX = 1_048_576  # bytes of one file that are read, whatever the tenant put there
FILES_MAX = 100  # and how many files
SIZE_S = 60
ENTRY = 4_096  # bytes: an empty file takes an inode and a name, and counts like one that holds a byte
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def opened(name, parent=None):
    return os.open(name, DIRECTORY, dir_fd=parent)


def mode(parent, name):
    return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode


def prepare(top, uid):
    for name in PARTS:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=top)
        give(opened(name, top), uid)


def give(part, uid):
    """The part itself comes last, so that the successor of a killed helper sees that there is more to do."""
    before = os.fstat(part).st_uid
    if before != uid:
        for _, folders, files, inner in os.fwalk(".", dir_fd=part, follow_symlinks=False):
            for name in folders + files:
                with contextlib.suppress(FileNotFoundError):
                    hand_over(inner, name, before, uid)
    os.fchown(part, uid, uid)
    os.fchmod(part, 0o700)


def hand_over(inner, name, before, uid):
    """Only what belonged to the former owner changes hands: a planted hard link to a file of another does not, and
    of root's files none with a second name, which may stand outside. What is looked at is what is given: both by one
    descriptor, so that nothing is exchanged in between."""
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=inner)
    try:
        found = os.fstat(entry)
        elsewhere = before == 0 and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
        if found.st_uid == before and not elsewhere:
            os.chown(f"/proc/self/fd/{entry}", uid, uid)
    finally:
        os.close(entry)


def write(top, uid):
    files = {name: base64.b64decode(text) for name, text in json.load(sys.stdin).items()}
    config = opened("config", top)
    for name, content in files.items():
        replace(config, name, content, uid)
    for name in set(os.listdir(config)) - set(files):
        delete(config, name)
    os.fsync(config)


def replace(config, name, content, uid):
    temporary = "." + secrets.token_hex(8) + ".tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400, dir_fd=config)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(descriptor, uid, uid)
        os.fchmod(descriptor, 0o400)
        os.fsync(descriptor)
    if name in os.listdir(config) and stat.S_ISDIR(mode(config, name)):
        delete(config, name)
    os.rename(temporary, name, src_dir_fd=config, dst_dir_fd=config)


def read(top, _):
    found = {}
    with contextlib.suppress(FileNotFoundError):
        config = opened("config", top)
        names = [name for name in sorted(os.listdir(config)) if stat.S_ISREG(mode(config, name))]
        for name in names[:FILES_MAX]:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=config)
            with os.fdopen(descriptor, "rb") as file:
                found[name] = base64.b64encode(file.read(FILE_MAX)).decode()
    sys.stdout.write(json.dumps(found))


def purge(top, _):
    for name in os.listdir(top):
        delete(top, name)


def delete(parent, name):
    """With everything below it, without recursion: a folder inside is first moved up, so that any depth goes."""
    if not stat.S_ISDIR(mode(parent, name)):
        os.unlink(name, dir_fd=parent)
        return
    top = opened(name, parent)
    while names := os.listdir(top):
        for entry in names:
            flatten(top, entry)
    os.close(top)
    os.rmdir(name, dir_fd=parent)


def flatten(top, name):
    if not stat.S_ISDIR(mode(top, name)):
        os.unlink(name, dir_fd=top)
        return
    inner = opened(name, top)
    for entry in os.listdir(inner):
        if stat.S_ISDIR(mode(inner, entry)):
            os.rename(entry, "." + secrets.token_hex(8), src_dir_fd=inner, dst_dir_fd=top)
        else:
            os.unlink(entry, dir_fd=inner)
    os.close(inner)
    os.rmdir(name, dir_fd=top)


def size(top, _):
    sys.stdout.write(str(occupied(top)))


def occupied(top):
    """Bytes on the disk of all that lies below ``top``, whoever owns it."""
    return sum(weigh(top).values())


def weigh(top, limit_s=SIZE_S):
    """Bytes on the disk of all that lies below ``top``, by owner: blocks, at least ``ENTRY`` for each entry, a file
    with several names once, other file systems left out. Two descriptors whatever the depth: the way back up is taken
    only where it leads to where we came from. A folder that is moved meanwhile, or takes longer than ``limit_s``
    seconds, is counted in part."""
    until = time.monotonic() + limit_s
    seen: set[int] = set()
    above: list[tuple[int, list[str]]] = []
    here = os.open(".", DIRECTORY, dir_fd=top)
    device = os.fstat(here).st_dev
    total, folders = listed(here, device, seen)
    try:
        while time.monotonic() < until:
            if folders:
                with contextlib.suppress(OSError):  # gone, closed to us, or a link by now
                    inner = opened(folders.pop(), here)
                    above.append((os.fstat(here).st_ino, folders))
                    os.close(here)
                    here = inner
                    count, folders = listed(here, device, seen)
                    add(total, count)
            elif above:
                parent = opened("..", here)
                os.close(here)
                here = parent
                number, folders = above.pop()
                if os.fstat(here).st_ino != number:
                    break
            else:
                break
    finally:
        os.close(here)
    return total


def listed(folder, device, seen):
    """The bytes of a folder's own entries by owner, and the names of the folders among them."""
    total: dict[int, int] = {}
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if found.st_dev != device or found.st_ino in seen:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    names.append(entry.name)
                elif found.st_nlink > 1:
                    seen.add(found.st_ino)
                add(total, {found.st_uid: max(found.st_blocks * 512, ENTRY)})
    return total, names


def add(total, more):
    for owner, count in more.items():
        total[owner] = total.get(owner, 0) + count


ACTS = {"size": size, "prepare": prepare, "write": write, "read": read, "purge": purge}

if __name__ == "__main__":
    ACTS[sys.argv[1]](opened(TOP), int(sys.argv[2]))
    sys.stdout.write("done\n")
