"""The triggers that make ``audit_log`` append-only, for SQLite and PostgreSQL.

Rows leave only when a checkpoint covers them, and checkpoints are append-only themselves. SQLite's ``INSERT OR
REPLACE`` deletes a row without firing its DELETE trigger, so an insert over a row that is there is refused on its
own. Against somebody who may alter the schema, only the hash chain helps.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

CHECKPOINTS = "audit_checkpoints"
_REFUSAL = "audit_log is append-only"
_SQLITE_REFUSE = f"SELECT RAISE(ABORT, '{_REFUSAL}'); END"
_OVER_A_ROW = "WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id OR hash = NEW.hash)"
_OVER_A_CHECKPOINT = "WHEN EXISTS (SELECT 1 FROM audit_checkpoints WHERE id = NEW.id OR last_id = NEW.last_id)"
_UNCOVERED = "NOT EXISTS (SELECT 1 FROM audit_checkpoints WHERE last_id >= OLD.id)"

Statements = dict[str, tuple[str, ...]]
_INSTALL: Statements = {
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
_REMOVE: Statements = {
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
_INSTALL_CHECKPOINTS: Statements = {
    "sqlite": (
        "DROP TRIGGER audit_log_no_delete",
        f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log WHEN {_UNCOVERED} BEGIN {_SQLITE_REFUSE}",
        f"CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints BEGIN {_SQLITE_REFUSE}",
        f"CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints BEGIN {_SQLITE_REFUSE}",
        "CREATE TRIGGER audit_checkpoints_no_replace BEFORE INSERT ON audit_checkpoints "
        f"{_OVER_A_CHECKPOINT} BEGIN {_SQLITE_REFUSE}",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_log_refuse_uncovered() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {_UNCOVERED} THEN RAISE EXCEPTION '{_REFUSAL}' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN OLD; END $$",
        "DROP TRIGGER audit_log_no_change ON audit_log",
        "CREATE TRIGGER audit_log_no_change BEFORE UPDATE ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()",
        "CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse_uncovered()",
        "CREATE TRIGGER audit_checkpoints_no_change BEFORE UPDATE OR DELETE ON audit_checkpoints "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()",
        "CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE ON audit_checkpoints "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()",
    ),
}
_REMOVE_CHECKPOINTS: Statements = {
    "sqlite": (
        "DROP TRIGGER audit_checkpoints_no_update",
        "DROP TRIGGER audit_checkpoints_no_delete",
        "DROP TRIGGER audit_checkpoints_no_replace",
        "DROP TRIGGER audit_log_no_delete",
        f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log BEGIN {_SQLITE_REFUSE}",
    ),
    "postgresql": (
        "DROP TRIGGER audit_checkpoints_no_change ON audit_checkpoints",
        "DROP TRIGGER audit_checkpoints_no_truncate ON audit_checkpoints",
        "DROP TRIGGER audit_log_no_delete ON audit_log",
        "DROP TRIGGER audit_log_no_change ON audit_log",
        "DROP FUNCTION audit_log_refuse_uncovered()",
        "CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()",
    ),
}


def install(connection: BaseDatabaseWrapper) -> None:
    """All of them: those for checkpoints too once their table is there."""
    _run(connection, _INSTALL)
    if _has_checkpoints(connection):
        install_checkpoints(connection)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Take all of them away: for a migration back, and for tests."""
    if _has_checkpoints(connection):
        remove_checkpoints(connection)
    _run(connection, _REMOVE)


def install_checkpoints(connection: BaseDatabaseWrapper) -> None:
    """From now on, what a checkpoint covers may be deleted."""
    _run(connection, _INSTALL_CHECKPOINTS)


def remove_checkpoints(connection: BaseDatabaseWrapper) -> None:
    """No row may be deleted any more."""
    _run(connection, _REMOVE_CHECKPOINTS)


def _has_checkpoints(connection: BaseDatabaseWrapper) -> bool:
    return CHECKPOINTS in connection.introspection.table_names()


def _run(connection: BaseDatabaseWrapper, statements: Statements) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
