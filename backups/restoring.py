"""Putting a sound backup in the place of what is there, as one act that can be undone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connections

from backups import places, staging
from backups.making import Say
from backups.staging import Staged
from zcplatform.lib import locks, swap
from zcplatform.lib.errors import Conflict, DependencyDown, Misconfigured
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.home import make_folders
from zcplatform.lib.serve_lock import nobody_serves
from zcplatform.lib.swap import Move

SIDECARS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Restored:
    """What an archive held, and what was done with it. ``replaced`` are the places that changed; ``unreadable`` counts
    secrets that did not open when it was made."""

    archive: str
    made_at: str
    version: str
    tenants: int
    migrated: list[str]
    unreadable: int
    replaced: list[str]


def look(archive: Path, *, say: Say) -> Restored:
    """Everything that a restore checks, and nothing changed. Works beside a running platform."""
    make_home()
    with staging.staged(archive, say=say) as staged:
        return _told(archive, staged, [])


def put_back(archive: Path, *, say: Say, reason: str) -> Restored:
    """See ``services.restore``."""
    home = make_home()
    with nobody_serves(home), _alone(home):
        staging.clear(home)
        note = {"archive": archive.name, "reason": reason}
        with staging.staged(archive, say=say, note=note) as staged:
            say("putting it in place", 0, 0)
            connections.close_all()
            swap.forget(home, settings.DATABASE_URL)  # one earlier state at a time
            moves = _moves(staged, home)
            failpoint("restore.beside")
            swap.perform(home, moves, settings.DATABASE_URL)
            failpoint("restore.swapped")
            return _told(archive, staged, [move.place for move in moves if move.new])


def undo() -> None:
    """See ``services.undo_restore``."""
    home = Path(settings.HOME)
    with nobody_serves(home), _alone(home):
        connections.close_all()
        swap.undo(home, settings.DATABASE_URL)


def make_home() -> Path:
    """The home, with its folders; a restore may begin with nothing."""
    home = Path(settings.HOME)
    make_folders(home)
    return home


def _moves(staged: Staged, home: Path) -> list[Move]:
    """Every file beside its place, whole and on the disk. Files that would not change are left as they are."""
    marked = swap.mark()
    try:
        moves = [*_database_moves(staged, marked)]
        for name, place in places.files().items():
            source = staged.folder / name
            if source.is_file() and not _same(source, place):
                moves.append(_move(source, place, marked))
    except BaseException:
        staging.clear(home)
        raise
    return moves


def _database_moves(staged: Staged, marked: str) -> Iterator[Move]:
    if staged.about.vendor != "sqlite":
        name = str(settings.DATABASES["default"]["NAME"])
        yield Move(name, staged.database, f"{name}_before_{marked}", database=True)
        return
    place = Path(settings.DATABASES["default"]["NAME"])
    for suffix in SIDECARS:  # first: a log of the old database beside the new one would destroy it
        log = place.with_name(place.name + suffix)
        yield Move(str(log), "", str(swap.beside(log, "before", marked)))
    yield _move(Path(staged.database), place, marked)


def _move(source: Path, place: Path, marked: str) -> Move:
    new = swap.beside(place, "new", marked)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _bring(source, new)
        if os.geteuid() == 0:
            like = place if place.exists() else Path(settings.HOME)
            os.chown(new, like.stat().st_uid, like.stat().st_gid)
    except OSError as error:
        new.unlink(missing_ok=True)
        text = f"{place} can't be replaced: {error.strerror}."
        if error.errno == errno.ENOSPC:
            raise DependencyDown(text, type="storage_full") from error
        raise Misconfigured(text, type="place_not_writable") from error
    return Move(str(place), str(new), str(swap.beside(place, "before", marked)))


def _bring(source: Path, new: Path) -> None:
    """By a rename where that is possible, else by a copy; durable in either case."""
    try:
        source.rename(new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, new)
        new.chmod(0o600)
    with new.open("rb") as file:
        os.fsync(file.fileno())


def _same(source: Path, place: Path) -> bool:
    return place.is_file() and not place.is_symlink() and source.read_bytes() == place.read_bytes()


def _told(archive: Path, staged: Staged, replaced: list[str]) -> Restored:
    about = staged.about
    return Restored(
        archive=str(archive),
        made_at=about.made_at,
        version=about.version,
        tenants=about.rows.get("tenants", 0),
        migrated=staged.migrated,
        unreadable=staged.unreadable,
        replaced=replaced,
    )


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    busy = Conflict("Another restore is under way.", type="restore_in_progress")
    with locks.held(swap.folder(home) / "lock", busy=busy):
        yield
