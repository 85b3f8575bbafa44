"""SQLite has one writer at a time. Whoever waits asks again and again, with longer and longer pauses, and under load
somebody is unlucky until their time is over: “database is locked”. So IMMEDIATE transactions take turns before they ask
SQLite: the threads of a process wait in line, and the first in each line for a lock on a file.

Turns are a courtesy. What keeps two writers apart is SQLite's own lock, and its own word is what a caller gets: who has
no turn when the ``timeout`` of the connection is over, or can't have one, asks SQLite all the same.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

SUFFIX = "-turn"  # beside the database, as SQLite's -wal
POLL_S = 0.001
IN_TURN = ("IMMEDIATE", "EXCLUSIVE")


class Line:
    """The threads that wait, first come, first served, which threading.Lock is not. The one in front is inside.

    No step of it can block: a garbage collection may call ``leave`` within any other.
    """

    def __init__(self) -> None:
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, limit_s: float) -> bool:
        """Wait to be the one in front. False when that took too long."""
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
        try:
            if self._waiting[0] is mine or mine.acquire(timeout=max(0.0, limit_s)):
                return True
        except BaseException:
            self._step_out(mine)
            raise
        self._step_out(mine)
        return False

    def leave(self) -> None:
        """Let the next one in; by whichever thread."""
        self._waiting.popleft()
        self._call()

    def _step_out(self, mine: threading.Lock) -> None:
        self._waiting.remove(mine)
        self._call()  # should we have been called in this very moment

    def _call(self) -> None:
        with suppress(IndexError, RuntimeError):  # nobody waits; who is in front was called before
            self._waiting[0].release()


class Turns:
    """The turns at one database file, in this process."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._line = Line()
        self._file = -1

    def take(self, until: float) -> bool:
        """Wait for a turn until then, by ``time.monotonic``. False when there was none."""
        if not self._line.enter(until - time.monotonic()):
            return False
        taken = False
        try:
            taken = self._lock(until)
        finally:
            if not taken:
                self._line.leave()
        return taken

    def give(self) -> None:
        """End the turn; by whichever thread."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._line.leave()

    def _lock(self, until: float) -> bool:
        """A record lock: it belongs to this process alone, whatever is forked meanwhile, and ends with it."""
        try:
            if self._file < 0:  # never closed: with any handle that closes, a process loses its record locks
                self._file = _open(self._database)
            while not _locked(self._file):
                if time.monotonic() >= until:
                    return False
                time.sleep(POLL_S)
        except OSError:  # a full disk, a file of somebody else's: doctor tells; SQLite's own waiting has to do
            return False
        return True


def _locked(file: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(database: str) -> int:
    """As SQLite opens what it makes beside a database: when root makes it, it belongs to the database's owner. Nobody
    else can open it, and so hold the turn."""
    path, flags, owner = f"{database}{SUFFIX}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, Path(database).stat()
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        file = os.open(path, flags)
        if os.fstat(file).st_mode & 0o077:
            os.fchmod(file, 0o600)
        return file
    if os.geteuid() == 0:
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


_turns: dict[str, Turns] = {}
# A child begins a line of its own: in the one it inherits, the threads that it lacks would wait for ever.
os.register_at_fork(after_in_child=_turns.clear)


def turns_at(database: str) -> Turns:
    """The turns at the file ``database``, by the path that SQLite has for it."""
    return _turns.setdefault(database, Turns(database))


class DatabaseWrapper(base.DatabaseWrapper):
    """Holds a turn from the beginning of a transaction to its end, or to its own."""

    _database = ""
    _turn: weakref.finalize[Any, Any] | None = None

    def get_connection_params(self) -> Any:
        """With the option ``must_exist`` no file is made where there is none, which SQLite would do."""
        params = super().get_connection_params()
        if params.pop("must_exist", False):
            params["database"] = f"{Path(params['database']).absolute().as_uri()}?mode=rw"
        return params

    def get_new_connection(self, conn_params: Any) -> Any:
        connection = super().get_new_connection(conn_params)
        # One path for all names of a file; none for a database in memory, which nobody shares.
        self._database = connection.execute("PRAGMA database_list").fetchone()[2]
        return connection

    def _start_transaction_under_autocommit(self) -> None:
        limit_s = float(self.settings_dict["OPTIONS"].get("timeout", 5))
        until = time.monotonic() + limit_s
        waited = self._take_turn(until)
        try:
            if waited:
                self._let_sqlite_wait(until - time.monotonic())
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._end_turn()
            raise
        finally:
            if waited:
                self._let_sqlite_wait(limit_s)

    def _take_turn(self, until: float) -> bool:
        """Whether some of the time that SQLite would wait is gone with it."""
        if not self._database or self.transaction_mode not in IN_TURN:  # type: ignore[attr-defined]
            return False
        began, turns = time.monotonic(), turns_at(self._database)
        if turns.take(until):
            # A thread that ends within its transaction leaves no more of it than this.
            self._turn = weakref.finalize(self, turns.give)
            self._turn.atexit = False
        return time.monotonic() - began > POLL_S

    def _let_sqlite_wait(self, limit_s: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(max(0.0, limit_s) * 1_000)}")

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._end_turn()  # one that fails goes on until it is rolled back

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]
        self._end_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn()
