"""A database that takes no row of the audit: what a full disk or a broken table looks like to the caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_ON = {
    "sqlite": (
        "CREATE TEMP TRIGGER audit_is_full BEFORE INSERT ON main.audit_log BEGIN SELECT RAISE(ABORT, 'full'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$",
        "CREATE TRIGGER audit_is_full BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_is_full()",
    ),
}
_OFF = {
    "sqlite": ("DROP TRIGGER temp.audit_is_full",),
    "postgresql": ("DROP TRIGGER audit_is_full ON audit_log", "DROP FUNCTION audit_is_full()"),
}


@contextmanager
def refusing() -> Iterator[None]:
    _run(_ON)
    try:
        yield
    finally:
        _run(_OFF)


def _run(statements: dict[str, tuple[str, ...]]) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
