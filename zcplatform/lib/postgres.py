"""The door to PostgreSQL's own programs and to whole databases, for backup and restore. Never a shell; the password
goes by the child's environment, where only its own user can see it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import dj_database_url

from zcplatform.lib import child
from zcplatform.lib.errors import DependencyDown, FaultError, Misconfigured

LIMIT_S = 3_600


def dump(url: str, target: Path, *, snapshot: str) -> None:
    """Write the database as ``snapshot`` sees it to ``target``; DependencyDown when pg_dump fails."""
    options = ("--format=custom", "--compress=0", "--no-owner", "--no-privileges", f"--snapshot={snapshot}")
    _program("pg_dump", url, *options, f"--file={target}")


def load(url: str, dump: Path) -> None:
    """Fill the empty database of ``url`` from a dump; FaultError ``archive_database_damaged`` when that fails."""
    try:
        _program("pg_restore", url, "--no-owner", "--no-privileges", "--exit-on-error", str(dump))
    except DependencyDown as error:
        raise FaultError(error.message, type="archive_database_damaged") from error


def another(url: str, name: str) -> str:
    """The address of the database ``name`` on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


def create(url: str, name: str) -> None:
    """Make an empty database; the user needs CREATEDB."""
    _administer(url, "CREATE DATABASE {}", name)


def drop(url: str, name: str) -> None:
    """Drop a database with whoever is connected to it; nothing when it is not there."""
    _administer(url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def exchange(url: str, place: str, new: str, old: str) -> None:
    """``new`` becomes ``place`` and what was there ``old``, in one transaction; nothing when it was done before."""
    from psycopg import sql

    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with _server(url) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        if new not in names:
            return
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)", [[place, new]]
        )
        with connection.transaction():
            for source, target in ((place, old), (new, place)):
                if source in names:
                    statement = rename.format(sql.Identifier(source), sql.Identifier(target))
                    connection.execute(statement)


def _administer(url: str, text: Any, name: str) -> None:
    from psycopg import sql

    statement = sql.SQL(text).format(sql.Identifier(name))
    with _server(url) as connection:
        connection.execute(statement)


@contextmanager
def _server(url: str) -> Iterator[Any]:
    """A connection beside the databases that are to be renamed."""
    import psycopg

    where, password = _where(another(url, "postgres"))
    try:
        with psycopg.connect(where, password=password or None, autocommit=True, connect_timeout=10) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise DependencyDown(f"PostgreSQL does not do it: {error}", type="database_unavailable") from error


def _program(name: str, url: str, *options: str) -> None:
    where, password = _where(url)
    program = child.find(name)
    if program is None:
        raise Misconfigured(f"{name} is not installed: PostgreSQL's client package brings it.")
    argv = [program, f"--dbname={where}", *options]
    env = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DependencyDown(f"{name} took more than {LIMIT_S} s.", type="database_unavailable") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        kind = "storage_full" if "No space left" in done.stderr else "database_unavailable"
        raise DependencyDown(f"{name}: {last}", type=kind)


def _where(url: str) -> tuple[str, str]:
    """The address in PostgreSQL's own words, with what stands behind its question mark, and the password apart."""
    from psycopg.conninfo import make_conninfo

    given = dj_database_url.parse(url)
    named: dict[str, Any] = {
        "host": given["HOST"],
        "port": given["PORT"],
        "user": given["USER"],
        "dbname": given["NAME"],
    }
    options: dict[str, Any] = {
        name: value for name, value in given.get("OPTIONS", {}).items() if isinstance(value, str)
    }
    return make_conninfo(**{name: value for name, value in named.items() if value}, **options), str(
        given["PASSWORD"] or ""
    )
