from __future__ import annotations

import pytest
from django.db import connection


@pytest.fixture
def raw():
    """SQL past the application and past the triggers: what somebody with the database file can do."""
    from audit import triggers

    def execute(*statements: str) -> None:
        triggers.remove(connection)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            triggers.install(connection)

    return execute


@pytest.fixture
def refuse_audit():
    """While this holds, the database takes no row of the audit."""
    from tests.audit.refusal import refusing

    with refusing():
        yield
