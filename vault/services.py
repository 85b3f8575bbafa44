"""The vault's one door: secrets go in, and come out only with a row in the audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from django.db import transaction

from audit.services import Target, record
from vault.mirror import create_keyring, verify_against, verify_keyring
from vault.models import Secret
from vault.rotation import remove_key, rotate, status
from vault.sealing import open_row, seal_row, unreadable
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import InvalidField, VaultError
from zcplatform.lib.redact import SecretStr, handle

__all__ = [
    "create_keyring",
    "delete",
    "put",
    "remove_key",
    "replace",
    "reveal",
    "reveal_many",
    "rotate",
    "status",
    "unreadable",
    "verify_against",
    "verify_keyring",
]

MAX_BYTES = 65_536


def put(*, purpose: str, owner: str, field: str, value: SecretStr, actor: Actor, origin: str = "") -> Secret:
    """Store ``value``. ``owner`` is the public id of the tenant or user that it belongs to, ``origin`` the place that
    it was entered for.

    InvalidField ``invalid_secret`` for an empty value, one over 64 KB or one that is no Unicode text.
    """
    _check(value, field)
    secret = Secret(public_id=uuid4(), purpose=purpose, owner=owner, field=field, origin=origin)
    with transaction.atomic():
        seal_row(secret, value)
        secret.save(force_insert=True)
        handle(value)
        _record("secret.write", [secret], actor)
    return secret


def replace(secret: Secret, value: SecretStr, *, actor: Actor) -> None:
    """Store another value in the same place. VaultError ``vault_secret_missing`` when the secret is gone."""
    _check(value, secret.field)
    with transaction.atomic():
        row = _rows([secret])[0]
        seal_row(row, value)
        row.updated_at = clock.now()
        handle(value)
        row.save(update_fields=["ciphertext", "key_version", "hint", "updated_at"])
        _record("secret.rotate", [row], actor)
    secret.refresh_from_db()


def reveal(secret: Secret, *, actor: Actor, why: str) -> SecretStr:
    """The value, once the audit has a row that says who read it and why; see ``reveal_many``."""
    return reveal_many([secret], actor=actor, why=why)[secret.pk]


def reveal_many(secrets: Sequence[Secret], *, actor: Actor, why: str) -> dict[int, SecretStr]:
    """The values by primary key, with one audit row for all of them.

    Without that row there is no value. Inside a caller's transaction the row stands or falls with it, so read
    outside of one where you can. VaultError ``vault_secret_missing``, ``vault_tampered``, ``vault_bad_format`` or
    ``vault_key_unknown``, audited as failed.
    """
    if not secrets:
        return {}
    opened: dict[int, SecretStr] = {}
    failure: VaultError | None = None
    with transaction.atomic():
        rows = _rows(secrets)
        try:
            opened = {row.pk: SecretStr(open_row(row).decode()) for row in rows}
        except VaultError as error:
            failure = error
        _record("secret.read", rows, actor, outcome="failed" if failure else "ok", why=why)
    if failure:
        raise failure
    for value in opened.values():
        handle(value)
    return opened


def delete(secrets: Iterable[Secret], *, actor: Actor = SYSTEM) -> int:
    """Delete secrets; those that are gone already do not count. Returns how many went."""
    keys = [secret.pk for secret in secrets]
    with transaction.atomic():
        rows = list(Secret.objects.filter(pk__in=keys).order_by("pk"))
        if rows:
            Secret.objects.filter(pk__in=keys).delete()
            _record("secret.delete", rows, actor)
    return len(rows)


def _check(value: SecretStr, field: str) -> None:
    try:
        size = len(value.reveal().encode())
    except UnicodeEncodeError:
        size = -1  # the error itself quotes the value
    if size < 0:
        raise InvalidField("This is not valid text.", type="invalid_secret", field=field)
    if not 0 < size <= MAX_BYTES:
        raise InvalidField(f"A secret has 1 to {MAX_BYTES} bytes.", type="invalid_secret", field=field, bytes=size)


def _rows(secrets: Sequence[Secret]) -> list[Secret]:
    """The rows as they are now: the caller's copies may be older than a rotation or a replacement."""
    found = Secret.objects.in_bulk([secret.pk for secret in secrets])
    if any(secret.pk not in found for secret in secrets):
        raise VaultError("A secret is gone.", type="vault_secret_missing")
    return list(found.values())


def _record(action: str, rows: list[Secret], actor: Actor, *, outcome: str = "ok", **detail: Any) -> None:
    owners = {row.owner for row in rows}
    names = [f"{row.purpose}/{row.field}" for row in rows]
    if len(rows) == 1:
        target = Target("secret", str(rows[0].public_id), names[0])
    else:
        target = Target("secret", "", f"{len(rows)} secrets")
        detail["opened"] = [f"{row.public_id} {name}" for row, name in zip(rows, names, strict=True)]
    tenant = owners.pop() if len(owners) == 1 else ""
    record(action, actor=actor, target=target, tenant=tenant, detail=detail, outcome=outcome)
