"""A database beside the platform's own, opened under a name of its own for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

ALIAS = "aside"


@contextmanager
def sqlite_file(path: Path) -> Iterator[str]:
    """The alias of a complete SQLite file; it is only read, and nothing appears beside it."""
    name = f"file:{quote(str(path))}?mode=ro&immutable=1"
    given = {"NAME": name, "OPTIONS": {}, "CONN_MAX_AGE": 0}
    connections.databases[ALIAS] = {**connections.databases[DEFAULT_DB_ALIAS], **given}
    try:
        yield ALIAS
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.databases[ALIAS]


def row_counts(using: str) -> dict[str, int]:
    """How many rows each table of a model has; tables that are not there are left out."""
    there = set(connections[using].introspection.table_names())
    models: list[type[Model]] = [m for m in apps.get_models(include_auto_created=True) if m._meta.managed]
    return {m._meta.db_table: m._base_manager.using(using).count() for m in models if m._meta.db_table in there}


def newest_migrations(using: str) -> dict[str, str]:
    """The newest applied migration of each app: their names begin with a number."""
    applied: Iterable[Any] = MigrationRecorder(connections[using]).applied_migrations()
    newest: dict[str, str] = {}
    for app, name in applied:
        newest[app] = max(name, newest.get(app, ""))
    return newest
