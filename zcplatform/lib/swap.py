"""Several files put in the place of others as one act.

A journal below ``HOME/restore`` names every move before the first one is made, and whoever opens the home next makes
those that are missing, as SQLite does with a hot journal. So a kill leaves all the old files or all the new ones.
The old files stay beside the new ones until ``forget``; until then ``undo`` brings them back.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zcplatform.lib import locks, postgres
from zcplatform.lib.errors import Conflict
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.private_files import replace_private, sync_folder

MOVING, MOVED, FORGETTING = "moving", "moved", "forgetting"
WAIT_S = 60.0


@dataclass(frozen=True)
class Move:
    """``new`` goes to ``place``, what is there goes to ``old``. An empty ``new``: only the latter. ``database`` marks
    names of PostgreSQL databases instead of paths."""

    place: str
    new: str
    old: str
    database: bool = False


def mark() -> str:
    """What tells the files of one swap from another's."""
    return secrets.token_hex(4)


def beside(place: Path, kind: str, marked: str) -> Path:
    """A hidden name in the same folder, so that a rename suffices."""
    return place.with_name(f".{place.name}.{kind}-{marked}")


def perform(home: Path, moves: list[Move], url: str = "") -> None:
    """Make all moves. Every ``new`` must be complete and on the disk. ``url`` is the database's, for those that are
    databases. From the moment that the journal is written there is no way but forward."""
    with _alone(home):
        journal = {"state": MOVING, "moves": [asdict(move) for move in moves]}
        _store(home, journal)
        failpoint("swap.journal")
        _go_forward(home, journal, url)


def settle(home: Path, url: str = "") -> None:
    """Finish a swap that was cut short; called before anything of the home is read. Ordinarily one look at a path."""
    if not _path(home).exists() or _load(home).get("state") != MOVING:
        return
    with _alone(home):
        journal = _load(home)
        if journal.get("state") == MOVING:
            _go_forward(home, journal, url)


def undo(home: Path, url: str = "") -> None:
    """Bring back what the last swap replaced; Conflict ``nothing_to_undo``. Can itself be undone."""
    journal = _load(home)
    if journal.get("state") != MOVED:
        raise Conflict("There is no earlier state to go back to.", type="nothing_to_undo")
    marked = mark()
    back = []
    for move in _moves(journal):
        if move.database:
            back.append(Move(move.place, move.old, f"{move.place}_{marked}", database=True))
            continue
        place = Path(move.place)
        back.append(Move(move.place, move.old if _there(move.old) else "", str(beside(place, "undone", marked))))
    perform(home, back, url)


def kept(home: Path) -> list[str]:
    """Where the earlier state lies, while it is kept."""
    journal = _load(home)
    if journal.get("state") != MOVED:
        return []
    return [move.old for move in _moves(journal) if move.database or _there(move.old)]


def forget(home: Path, url: str = "") -> bool:
    """Delete the earlier state for good; returns whether there was one."""
    if not _path(home).exists():
        return False
    with _alone(home):
        journal = _load(home)
        if journal.get("state") not in (MOVED, FORGETTING):
            return False
        _store(home, {**journal, "state": FORGETTING})  # what is half deleted can't be gone back to
        for move in _moves(journal):
            if move.database:
                postgres.drop(url, move.old)
            else:
                Path(move.old).unlink(missing_ok=True)
        _path(home).unlink()
    return True


def folder(home: Path) -> Path:
    """Where journals and staged copies lie; made when absent."""
    path = home / "restore"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _go_forward(home: Path, journal: dict[str, Any], url: str) -> None:
    moves = _moves(journal)
    for move in moves:
        if move.database:
            postgres.exchange(url, move.place, move.new, move.old)
        else:
            _make(move)
        failpoint("swap.move")
    for parent in {Path(move.place).parent for move in moves if not move.database}:
        sync_folder(parent)
    failpoint("swap.moved")
    _store(home, {**journal, "state": MOVED})
    failpoint("swap.done")


def _make(move: Move) -> None:
    if move.new and not _there(move.new):
        return  # made before
    if _there(move.place) and not _there(move.old):
        Path(move.place).rename(move.old)
        failpoint("swap.aside")
    if move.new:
        Path(move.new).rename(move.place)


def _moves(journal: dict[str, Any]) -> list[Move]:
    return [Move(**item) for item in journal["moves"]]


def _there(path: str) -> bool:
    return os.path.lexists(path)


def _path(home: Path) -> Path:
    return home / "restore" / "journal.json"


def _load(home: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        journal: dict[str, Any] = json.loads(_path(home).read_text())
        return journal
    return {}


def _store(home: Path, journal: dict[str, Any]) -> None:
    folder(home)
    replace_private(_path(home), json.dumps(journal, indent=1).encode())


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One who moves at a time; the others wait, it takes milliseconds. Conflict ``restore_in_progress`` when it takes
    longer than a minute."""
    busy = Conflict("Another process moves what a restore made, and does not end.", type="restore_in_progress")
    with locks.held(folder(home) / "journal.lock", busy=busy, wait_s=WAIT_S):
        yield
