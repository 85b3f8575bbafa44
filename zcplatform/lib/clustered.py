"""Tables that lie in the order of their key, for time series."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class CreateClusteredModel(migrations.CreateModel):
    """``CreateModel`` whose table is, on SQLite, ``WITHOUT ROWID``: the rows lie in the primary key's own tree, a
    fifth of the size and of the time to prune (docs/monitoring.md). Elsewhere it is an ordinary table.

    A later change of a column that SQLite can't do in place makes Django copy the table into an ordinary one:
    create it anew with this operation instead.

    The key's columns become the table's first. Elsewhere SQLite 3.40, which is Debian 12's, mixes up the columns when
    it looks for damage, and calls a sound database lost.
    """

    def __init__(self, name: str, fields: list[tuple[str, Any]], **options: Any) -> None:
        key = ("pk", *dict(fields)["pk"].field_names)
        first = sorted(fields, key=lambda field: key.index(field[0]) if field[0] in key else len(key))
        super().__init__(name, first, **options)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "sqlite":
            schema_editor.sql_create_table = f"{type(schema_editor).sql_create_table} WITHOUT ROWID"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.__dict__.pop("sql_create_table", None)
