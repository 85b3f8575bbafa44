"""One row and its value: sealing it under the key that writes, opening it with the key that it names."""

from __future__ import annotations

from vault import cipher, keyring
from vault.mirror import writing_key
from vault.models import Secret
from zcplatform.lib.errors import VaultError
from zcplatform.lib.redact import SecretStr

HINT_MIN_LENGTH, HINT_LENGTH = 16, 4


def seal_row(row: Secret, value: SecretStr) -> None:
    """Put ``value`` into ``row`` under the key that writes now; inside the transaction that saves the row."""
    key = writing_key()
    row.key_version = key.version
    row.ciphertext = cipher.encrypt(value.reveal().encode(), key=key.secret, version=key.version, place=place_of(row))
    row.hint = value.reveal()[-HINT_LENGTH:] if len(value.reveal()) >= HINT_MIN_LENGTH else ""


def open_row(row: Secret) -> bytes:
    """The plaintext, without an audit row: for this app alone.

    VaultError ``vault_bad_format``, ``vault_tampered`` or ``vault_key_unknown``.
    """
    version = cipher.version_of(row.ciphertext)
    key = keyring.key(version)
    if key is None:
        message = f"A stored secret needs version {version} of the vault key, which the key file lacks."
        raise VaultError(message, type="vault_key_unknown")
    if version != row.key_version:
        raise VaultError("A stored secret contradicts its row.", type="vault_tampered")
    return cipher.decrypt(row.ciphertext, key=key.secret, place=place_of(row))


def unreadable() -> list[str]:
    """The public ids of secrets that do not open; opens every one and shows none."""
    found = []
    for row in Secret.objects.order_by("pk").iterator(chunk_size=500):
        try:
            open_row(row)
        except VaultError:
            found.append(str(row.public_id))
    return found


def place_of(row: Secret) -> cipher.Place:
    return cipher.Place(row.purpose, row.owner, row.field, str(row.public_id))
