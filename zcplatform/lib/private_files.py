"""Files that hold keys: read only when nobody else could have read or replaced them, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.failpoints import failpoint


def check_private(path: Path) -> None:
    """Refuse a key file that others could read or replace: link, foreign owner, loose mode, open folder."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise ImproperlyConfigured(f"{path} must be a regular file, not a link or a folder.")
    if info.st_uid not in (os.geteuid(), 0):
        text = f"{path} belongs to uid {info.st_uid}, and this runs as uid {os.geteuid()}: run it as the file's user."
        raise ImproperlyConfigured(text)
    if info.st_mode & 0o077:
        raise ImproperlyConfigured(f"{path} has mode {info.st_mode & 0o777:04o}; run: chmod 600 {path}")
    folder = path.parent.stat()
    if folder.st_mode & 0o022:
        raise ImproperlyConfigured(f"{path.parent} can be written by others; run: chmod 700 {path.parent}")


def write_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600 so that a reader sees all of it or nothing; FileExistsError if present."""
    temporary = _temporary(path, content)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def replace_private(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path``, mode 0600: a reader sees the old or the new, even after a crash."""
    temporary = _temporary(path, content)
    try:
        failpoint("private_files.written")
        temporary.replace(path)
        failpoint("private_files.replaced")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def keep_private(path: Path, content: bytes) -> None:
    """The same, but a file that holds ``content`` already is not written anew: that takes no room on the disk."""
    try:
        check_private(path)
        if path.read_bytes() == content:
            return
    except (OSError, ImproperlyConfigured):
        pass  # absent, or not as it should be: it is replaced
    replace_private(path, content)


def private_folder(folder: Path) -> None:
    """Make ``folder`` with mode 0700; Misconfigured ``loose_folder`` when others could read or replace files there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    info = folder.stat()
    if info.st_uid not in (os.geteuid(), 0):
        message = f"{folder} belongs to uid {info.st_uid}; it must belong to uid {os.geteuid()}."
        raise Misconfigured(message, type="loose_folder")
    if stat.S_IMODE(info.st_mode) & 0o027:
        mode = stat.S_IMODE(info.st_mode)
        todo = "name one of its own" if mode & stat.S_ISVTX else f"name another, or run: chmod 700 {folder}"
        message = f"{folder} has mode {mode:04o}, open to others; {todo}"
        raise Misconfigured(message, type="loose_folder")


def sync_folder(folder: Path) -> None:
    """Make a rename or link in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path, content: bytes) -> Path:
    """``content`` on the disk under a hidden name beside ``path``; nothing is left behind when that fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary
