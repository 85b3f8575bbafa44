"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import pytest
from django.db.backends.base.operations import BaseDatabaseOperations

from audit import triggers


@pytest.fixture(autouse=True, scope="session")
def _flush_may_empty_the_audit():
    """Between transactional tests Django empties every table; the audit's triggers step aside for that alone."""
    original = BaseDatabaseOperations.execute_sql_flush

    def flush(self, sql_list):
        triggers.remove(self.connection)
        try:
            original(self, sql_list)
        finally:
            triggers.install(self.connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush)
        yield


@pytest.fixture
def vault_key(db):
    """The vault's key file, and its mirror in this test's database."""
    from vault.services import create_keyring
    from zcplatform.lib.actors import SYSTEM

    return create_keyring(actor=SYSTEM)
