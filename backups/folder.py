"""The folder that holds archives: private, one writer at a time, nothing half-made under an archive's name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from zcplatform.lib import locks
from zcplatform.lib.errors import Conflict

_NAME = re.compile(r"zcplatform-backup-\d{4}-\d\d-\d\d-\d{6}\.tar\.gz", re.ASCII)
_TEMPORARY = ".zcplatform-backup."


def name_at(moment: datetime) -> str:
    """``zcplatform-backup-YYYY-MM-DD-HHMMSS.tar.gz``, in UTC."""
    return f"zcplatform-backup-{moment.astimezone(UTC):%Y-%m-%d-%H%M%S}.tar.gz"


def archives(folder: Path) -> list[Path]:
    """The archives in ``folder``, oldest first: their names sort by time."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and not path.is_symlink())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who writes there, and clear away what a killed one left. Conflict ``backup_in_progress``."""
    busy = Conflict(f"Another backup is writing to {folder}.", type="backup_in_progress")
    with locks.held(folder / ".zcplatform-backup-lock", busy=busy):
        clear(folder)
        yield


@contextmanager
def staging(folder: Path, marked: str) -> Iterator[Path]:
    """A folder for what goes into the archive; gone at the end, whatever happens."""
    path = folder / f"{_TEMPORARY}{marked}.staging"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def temporary(folder: Path, marked: str) -> Path:
    """The name that an archive has until it is whole."""
    return folder / f"{_TEMPORARY}{marked}.tmp"


def clear(folder: Path) -> None:
    """Remove what has a temporary name; only while ``alone``."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def prune(folder: Path, keep: int) -> list[str]:
    """Delete all but the newest ``keep`` archives; returns their names."""
    old = archives(folder)[:-keep]
    for path in old:
        path.unlink()
    return [path.name for path in old]
