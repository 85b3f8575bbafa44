"""The triggers that make ``audit_log`` append-only, for SQLite and PostgreSQL.

SQLite's ``INSERT OR REPLACE`` deletes a row without firing its DELETE trigger, so an insert over a row that is
there is refused on its own. Against somebody who may alter the schema, only the hash chain helps.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

_REFUSAL = "audit_log is append-only"
_SQLITE_REFUSE = f"SELECT RAISE(ABORT, '{_REFUSAL}'); END"
_OVER_A_ROW = "WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id OR hash = NEW.hash)"
_INSTALL: dict[str, tuple[str, ...]] = {
    "sqlite": (
        f"CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log BEGIN {_SQLITE_REFUSE}",
        f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log BEGIN {_SQLITE_REFUSE}",
        f"CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log {_OVER_A_ROW} BEGIN {_SQLITE_REFUSE}",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()",
        "CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()",
    ),
}
_REMOVE: dict[str, tuple[str, ...]] = {
    "sqlite": (
        "DROP TRIGGER audit_log_no_update",
        "DROP TRIGGER audit_log_no_delete",
        "DROP TRIGGER audit_log_no_replace",
    ),
    "postgresql": (
        "DROP TRIGGER audit_log_no_change ON audit_log",
        "DROP TRIGGER audit_log_no_truncate ON audit_log",
        "DROP FUNCTION audit_log_refuse()",
    ),
}


def install(connection: BaseDatabaseWrapper) -> None:
    _run(connection, _INSTALL)


def remove(connection: BaseDatabaseWrapper) -> None:
    _run(connection, _REMOVE)


def _run(connection: BaseDatabaseWrapper, statements: dict[str, tuple[str, ...]]) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
