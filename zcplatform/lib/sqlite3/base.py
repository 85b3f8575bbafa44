"""SQLite has one writer at a time. Whoever waits asks again and again, with longer and longer pauses, and under load
somebody is unlucky until their time is over: “database is locked”. So transactions take turns here before they ask
SQLite: the threads of a process wait in line for a lock, and one thread of each process for a lock on a file.

A turn ends with its transaction, and with its process, whatever becomes of it. Who gets none within the ``timeout`` of
the connection gets SQLite's own error.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

POLL_S = 0.001


class Turns:
    """The turns at one database file, in this process."""

    def __init__(self, path: str) -> None:
        self._line = threading.Lock()
        # Opened anew in each process: what a fork shares would count as one holder.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, limit_s: float) -> None:
        """Wait for a turn. OperationalError after ``limit_s`` seconds."""
        until = time.monotonic() + limit_s
        if not self._line.acquire(timeout=limit_s):
            raise OperationalError("database is locked")
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    self._line.release()
                    raise OperationalError("database is locked") from None
                time.sleep(POLL_S)
            except BaseException:
                self._line.release()
                raise

    def give(self) -> None:
        """End the turn; by whichever thread."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._line.release()


_turns: dict[tuple[int, str], Turns] = {}
_making = threading.Lock()


def turns_at(name: str) -> Turns | None:
    """The turns at the database ``name``; None for one in memory, which nobody shares."""
    if ":memory:" in name or "mode=memory" in name:
        return None
    key = (os.getpid(), name)
    with _making:
        if key not in _turns:
            _turns[key] = Turns(f"{name}-turn")
        return _turns[key]


class DatabaseWrapper(base.DatabaseWrapper):
    """Holds a turn from the beginning of a transaction to its end."""

    _turn: Turns | None = None

    def _start_transaction_under_autocommit(self) -> None:
        turns = turns_at(str(self.settings_dict["NAME"]))
        if turns is not None:
            turns.take(float(self.settings_dict["OPTIONS"].get("timeout", 5)))
        self._turn = turns
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._end_turn()
            raise

    def _commit(self) -> Any:
        try:
            return super()._commit()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give()
