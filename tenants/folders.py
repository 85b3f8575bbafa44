"""Tenant folders on this host. Everything below ``settings.HOME`` is reached through directory descriptors with
O_NOFOLLOW: a tenant owns ``config/`` and ``data/`` and may have planted any link there, and none is ever followed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from tenants.runtimes.folder_script import hand_over, occupied
from zcplatform.lib.errors import DependencyDown, RunFailed

CONFIG_FILE_MAX = 1_048_576  # bytes of one file that are read, whatever the tenant put there
CONFIG_FILES_MAX = 100  # and how many files
SWEEP_S = 30
"""How long a configuration folder is cleared before its owner is taken to fill it meanwhile."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class DirectFolders:
    """A ``FolderKeeper`` by system calls of this process: the tenant's uid owns the parts where the caller is
    root; otherwise everything keeps the caller's uid."""

    cheap = True

    def prepare(self, folder: Path, uid: int) -> None:
        with storage_errors(folder), _parent(folder, mode=0o711) as parent, _made(parent, folder.name) as top:
            # First, so that nobody exchanges a part meanwhile. Passable: the tenant's uid has to get to its parts.
            _own(top, os.geteuid(), 0o711)
            for name in ("config", "data"):
                _make(top, name, 0o700)
                _unlock(top, name)  # where the platform is no more than the agent, a closed folder keeps it out
                with _opened(top, name) as part:
                    _give(part, uid)
            with _made(top, "logs") as logs:
                _own(logs, os.geteuid(), 0o700)

    def write_config(self, folder: Path, uid: int, files: Mapping[str, bytes]) -> None:
        with storage_errors(folder), _part(folder, "config") as config:
            _sweep(config, files)  # first: it may be what fills the disk
            with _blamed_on_the_owner(config, files):
                for name, content in files.items():
                    if not _is_already(config, _checked(name), content, uid):
                        _replace(config, name, content, uid)
            _sweep(config, files)
            os.fsync(config)

    def read_config(self, folder: Path) -> dict[str, bytes]:
        with storage_errors(folder), suppress(FileNotFoundError), _part(folder, "config") as config:
            names = [name for name in sorted(_entries(config)) if _is_file(config, name)]
            return {name: _read(config, name) for name in names[:CONFIG_FILES_MAX]}
        return {}

    def write_log(self, folder: Path, name: str, text: str) -> None:
        with storage_errors(folder), suppress(FileNotFoundError), _part(folder, "logs") as logs:
            if os.fstat(logs).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "its log folder is not the platform's")
            _replace(logs, _checked(name), text.encode(), os.geteuid())

    def read_log(self, folder: Path, name: str) -> str:
        with storage_errors(folder), suppress(FileNotFoundError), _part(folder, "logs") as logs:
            return _read(logs, _checked(name)).decode(errors="replace") if _is_file(logs, name) else ""
        return ""

    def size(self, folder: Path) -> int:
        with (
            storage_errors(folder),
            suppress(FileNotFoundError),
            _parent(folder) as parent,
            _opened(parent, folder.name) as top,
        ):
            return occupied(top)
        return 0

    def archive(self, folder: Path, trash: Path) -> None:
        with storage_errors(folder), _parent(folder, mode=0o711) as source, _parent(trash, mode=0o700) as target:
            os.fchmod(target, 0o700)
            if not _exists(source, folder.name):
                return
            if _exists(target, trash.name):  # archived before and made anew since: both are kept
                with _opened(target, trash.name) as earlier:
                    os.rename(folder.name, _unused("again"), src_dir_fd=source, dst_dir_fd=earlier)
            else:
                os.rename(folder.name, trash.name, src_dir_fd=source, dst_dir_fd=target)
            os.fsync(source)
            os.fsync(target)

    def bring_back(self, trash: Path, folder: Path, uid: int) -> None:
        with storage_errors(trash), suppress(FileNotFoundError), _parent(trash) as source:
            if not _exists(source, trash.name):
                return
            self.prepare(trash, uid)  # first: its former uid may be another tenant's by now
            move_back(trash, folder)

    def purge(self, trash: Path) -> None:
        with storage_errors(trash), suppress(FileNotFoundError), _parent(trash) as parent:
            _delete(parent, trash.name)


def move_back(trash: Path, folder: Path) -> None:
    """Out of the trash, in one rename; OSError where a folder that holds something is in its place."""
    with _parent(trash) as source, _parent(folder, mode=0o711) as target:
        os.rename(trash.name, folder.name, src_dir_fd=source, dst_dir_fd=target)
        os.fsync(source)
        os.fsync(target)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """OSErrors as the platform's own: a full or failing disk may recover, anything else will not by itself."""
    try:
        yield
    except OSError as error:
        text = f"Folder {folder.name}: {error.strerror or error}."
        if error.errno in _FULL:
            raise DependencyDown(text, type="storage_full") from error
        raise RunFailed(text, type="folder_failed") from error
    except RecursionError as error:
        raise RunFailed(f"Folder {folder.name}: nested too deeply.", type="folder_failed") from error


def _parts(folder: Path) -> tuple[str, ...]:
    """The components below HOME, the last of them a UUID; anything else is refused."""
    try:
        parts = folder.relative_to(settings.HOME).parts
        if ".." in parts[:-1] or str(UUID(parts[-1])) != parts[-1]:
            raise ValueError(folder)
    except (ValueError, IndexError) as error:
        raise RunFailed("A tenant's folder is named by its UUID, below the home.", type="folder_failed") from error
    return parts


@contextmanager
def _parent(folder: Path, *, mode: int | None = None) -> Iterator[int]:
    """A descriptor of the folder that holds ``folder``; made with ``mode`` on the way when one is given."""
    parts = _parts(folder)
    descriptor = os.open(settings.HOME, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in parts[:-1]:
            if mode is not None:
                _make(descriptor, name, mode)
            below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _part(folder: Path, name: str) -> Iterator[int]:
    with _parent(folder) as parent, _opened(parent, folder.name) as top, _opened(top, name) as part:
        yield part


@contextmanager
def _made(parent: int, name: str) -> Iterator[int]:
    _make(parent, name, 0o700)
    with _opened(parent, name) as descriptor:
        yield descriptor


def _make(parent: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    with _opened(parent, name) as made:
        os.fchmod(made, mode)  # whatever the umask took


def _own(descriptor: int, uid: int, mode: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, uid, uid)
    os.fchmod(descriptor, mode)


def _give(part: int, uid: int) -> None:
    """Own ``part``; its content too where it belonged to somebody else. The part itself comes last, so that
    a killed worker's successor sees that there is more to do."""
    before = os.fstat(part).st_uid
    if os.geteuid() == 0 and before != uid:
        _give_content(part, before, uid)
    _own(part, uid, 0o700)


def _give_content(top: int, before: int, uid: int) -> None:
    for _, directories, files, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
        for name in (*directories, *files):
            with suppress(FileNotFoundError):
                hand_over(descriptor, name, before, uid)


def _checked(name: str) -> str:
    if not _FILE_NAME.fullmatch(name) or name in (".", "..") or name.endswith(".tmp"):
        raise RunFailed("A file of a tenant's folder has a plain name.", type="folder_failed")
    return name


def _is_already(folder: int, name: str, content: bytes, uid: int) -> bool:
    """Whether the file is as it would be written: then it needs no room on the disk."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        owner = uid if os.geteuid() == 0 else os.geteuid()
        as_written = (stat.S_ISREG(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid, found.st_nlink)
        return (
            as_written == (True, 0o400, owner, 1) and found.st_size == len(content) and _read(folder, name) == content
        )
    except OSError:
        return False


def _replace(folder: int, name: str, content: bytes, uid: int) -> None:
    """Write beside, make durable, rename: a reader sees the old file or the new one."""
    temporary = f"{_unused(name)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _own(descriptor, uid, 0o400)
            os.fsync(descriptor)
        if _is_directory(folder, name):
            _delete(folder, name)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:  # a full disk does not get half a file more
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _sweep(config: int, files: Mapping[str, bytes]) -> None:
    """Delete what is not among ``files``. OSError when there is always more of it."""
    until = time.monotonic() + SWEEP_S
    for name in set(_entries(config)) - set(files):
        with suppress(FileNotFoundError):
            _delete(config, name, until)


@contextmanager
def _blamed_on_the_owner(config: int, files: Mapping[str, bytes]) -> Iterator[None]:
    """A disk that is full while there is again what does not belong here is not waited for: somebody fills it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and set(_entries(config)) - set(files):
            raise OSError(errno.EBUSY, "it is filled while it is written") from error
        raise


def _read(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(CONFIG_FILE_MAX)


def _mode(folder: int, name: str) -> int:
    """The type and mode of an entry itself, never of what a link points to; 0 when absent."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _entries(folder: int) -> list[str]:
    return os.listdir(folder)


def _exists(folder: int, name: str) -> bool:
    return _mode(folder, name) != 0


def _is_file(folder: int, name: str) -> bool:
    return stat.S_ISREG(_mode(folder, name))


def _is_directory(folder: int, name: str) -> bool:
    return stat.S_ISDIR(_mode(folder, name))


def _unused(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}"


def _delete(folder: int, name: str, until: float | None = None) -> None:
    """Delete an entry with everything below it. No recursion, two descriptors: a directory inside is first moved
    up beside ``name``'s own children, so that a tree of any depth goes. Given up at ``until``, of the monotonic
    clock."""
    if not _is_directory(folder, name):
        os.unlink(name, dir_fd=folder)
        return
    _unlock(folder, name)
    with _opened(folder, name) as top:
        while entries := _entries(top):
            for entry in entries:
                if until is not None and time.monotonic() > until:
                    raise OSError(errno.EBUSY, "it is filled while it is cleared")
                _flatten(top, entry)
    os.rmdir(name, dir_fd=folder)


def _flatten(top: int, name: str) -> None:
    """Remove the entry; directories inside it become entries of ``top``."""
    if not _is_directory(top, name):
        os.unlink(name, dir_fd=top)
        return
    _unlock(top, name)
    with _opened(top, name) as inner:
        for entry in _entries(inner):
            if _is_directory(inner, entry):
                _unlock(inner, entry)
                os.rename(entry, _unused("purge"), src_dir_fd=inner, dst_dir_fd=top)
            else:
                os.unlink(entry, dir_fd=inner)
    os.rmdir(name, dir_fd=top)


def _unlock(folder: int, name: str) -> None:
    """Mode 0700 for a directory, whatever its owner made of it; through a descriptor, so that no link is followed."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        Path(f"/proc/self/fd/{descriptor}").chmod(0o700)
    finally:
        os.close(descriptor)
