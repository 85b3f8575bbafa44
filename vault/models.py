"""Ciphertext and the mirror of the key file. No key material ever stands in the database."""

from __future__ import annotations

import uuid

from django.db import models

from zcplatform.lib import clock


class Secret(models.Model):
    """One encrypted value. Purpose, owner, field and its own id are bound into the ciphertext, so that a value
    copied to another row does not open. ``hint`` is at most the last four characters of a long value.

    ``origin`` is where the value may be sent (scheme, host and port, perhaps several); empty where that is not for
    anybody to choose. It never changes: a value for another place is another row."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    purpose = models.CharField(max_length=40)
    owner = models.CharField(max_length=64, db_index=True)
    field = models.CharField(max_length=64)
    ciphertext = models.TextField()
    key_version = models.PositiveIntegerField(db_index=True)
    origin = models.CharField(max_length=600, blank=True, default="", editable=False)
    hint = models.CharField(max_length=4, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "vault_secrets"

    def __str__(self) -> str:
        return f"{self.purpose}/{self.field} of {self.owner}"


class KeyVersion(models.Model):
    """One version of the vault key: what the file holds, less the key itself.

    ``check_value`` is a known text under that key: it tells a foreign key file from ours.
    """

    version = models.PositiveIntegerField(unique=True)
    algorithm = models.CharField(max_length=40, default="xchacha20poly1305")
    fingerprint = models.CharField(max_length=64)
    check_value = models.TextField()
    created_at = models.DateTimeField(default=clock.now)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "vault_keys"

    def __str__(self) -> str:
        return f"v{self.version}"
