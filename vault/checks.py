"""System checks: a key file that is missing, loose, damaged or foreign is found before anything starts.

``check --deploy`` looks at the file, ``check --database default`` at file and database together. Neither complains
before the tables exist or while a new installation has nothing to protect yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from vault import keyring
from vault.mirror import verify_keyring
from vault.models import KeyVersion, Secret
from zcplatform.lib.errors import Misconfigured

DATABASE = "default"
_BACK = "Put the vault key file back from a backup; without it the secrets in the database are lost."
_FINDINGS = {
    "vault_key_missing": ("vault.E001", _BACK),
    "vault_key_damaged": ("vault.E002", _BACK),
    "vault_key_short": ("vault.E003", _BACK),
    "vault_key_loose": ("vault.E004", "The file must be regular, 0600 and yours, in a folder that only you can write."),
    "vault_key_foreign": ("vault.E005", "The file belongs to another installation or backup: use the one of this."),
    "vault_key_incomplete": ("vault.E006", "The file is older than the database: use the newer one."),
    "vault_key_unreadable": ("vault.E007", "The platform's user must be able to read the file."),
    "vault_passphrase_missing": ("vault.E008", "Set ZCPLATFORM_VAULT_PASSPHRASE_FILE."),
    "vault_passphrase_wrong": ("vault.E009", "Set the passphrase that the file was written with."),
}


@register("vault", deploy=True)
def check_key_file(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The file by itself; a missing one is only told where the database can be asked whether it is needed."""
    if DATABASE in (databases or ()) or not keyring.exists():
        return []
    return _found(keyring.load)


@register("vault", Tags.database)
def check_keyring(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """File and database together."""
    if DATABASE not in (databases or ()) or not _has_tables():
        return []
    if not keyring.exists() and not Secret.objects.exists() and not KeyVersion.objects.exists():
        return []
    return _found(verify_keyring)


def _has_tables() -> bool:
    connection = connections[DATABASE]
    return {Secret._meta.db_table, KeyVersion._meta.db_table} <= set(connection.introspection.table_names())


def _found(look: Callable[[], object]) -> list[CheckMessage]:
    try:
        look()
    except Misconfigured as error:
        number, hint = _FINDINGS[error.type]
        return [Error(error.message, hint=hint, id=number)]
    return []
