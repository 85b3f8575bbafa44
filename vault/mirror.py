"""The mirror of the key file in the database: which version writes, and whether file and database belong together.

A version is in the file before it is in the database, and only the database's newest one writes. So whatever is
killed, no secret is ever under a key that the file does not hold.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, transaction

from audit.services import Target, record
from vault import cipher, keyring
from vault.keyfile import Key, Keyring, new_key
from vault.models import KeyVersion, Secret
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import Misconfigured, VaultError

_CHECK_TEXT = b"zcplatform vault check"


def create_keyring(*, actor: Actor = SYSTEM) -> bool:
    """Make the key file and its mirror at the first bootstrap; returns whether the file is new.

    May be run again at any time. Never makes a file while the database knows a key or a secret: Misconfigured
    ``vault_key_missing`` then.
    """
    folder = Path(settings.VAULT_KEY_FILE).parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with keyring.exclusive(wait=True):
        made = not keyring.exists()
        if made:
            _refuse_to_replace_a_lost_file()
            keyring.create(Keyring((new_key(1, clock.now().isoformat()),)))
        if not KeyVersion.objects.exists() and not Secret.objects.exists():
            _mirror_first(keyring.load(), actor)
        verify_keyring()
    return made


def verify_keyring() -> Keyring:
    """The keys, when the file is sound and belongs to this database; for the start, ``doctor`` and restore.

    Misconfigured: see ``keyring.load`` and ``verify_against``.
    """
    ring = keyring.load(fresh=True)
    verify_against(ring)
    return ring


def verify_against(ring: Keyring, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Misconfigured ``vault_key_foreign`` when ``ring`` holds other keys than the database has seen,
    ``vault_key_incomplete`` when it lacks a version that the database knows or a secret needs."""
    rows = list(KeyVersion.objects.using(using).order_by("version"))
    secrets = Secret.objects.using(using)
    for row in rows:
        key = ring.get(row.version)
        if key is None:
            raise _incomplete(row.version)
        check_key(key, row)
    for version in secrets.order_by("key_version").values_list("key_version", flat=True).distinct():
        if ring.get(version) is None:
            raise _incomplete(version)
    if not rows and secrets.exists():
        raise Misconfigured("The database holds secrets, but knows no vault key.", type="vault_key_foreign")


def check_key(key: Key, row: KeyVersion) -> None:
    """Misconfigured ``vault_key_foreign`` unless ``key`` is the one that ``row`` mirrors."""
    try:
        opened = cipher.decrypt(row.check_value, key=key.secret, place=_place(row.version))
    except VaultError:
        opened = b""
    if key.fingerprint != row.fingerprint or opened != _CHECK_TEXT:
        message = f"Version {row.version} in the vault key file is not the key that this database was written with."
        raise Misconfigured(message, type="vault_key_foreign")


def writing_key() -> Key:
    """The key for new ciphertext. Call it inside the transaction that writes: the row stays locked until its end, so
    that a rotation can't retire the version in between."""
    row = _newest() or _newest()  # PostgreSQL may find its row retired after waiting for it; the next look is fresh
    if row is None:
        raise Misconfigured("The vault has no key yet: run bootstrap.", type="vault_key_missing")
    key = keyring.key(row.version)
    if key is None:
        raise _incomplete(row.version)
    if key.fingerprint != row.fingerprint:
        check_key(key, row)
    return key


def add_row(key: Key) -> KeyVersion:
    """Mirror one version of the file."""
    return KeyVersion.objects.create(
        version=key.version,
        fingerprint=key.fingerprint,
        check_value=cipher.encrypt(_CHECK_TEXT, key=key.secret, version=key.version, place=_place(key.version)),
        created_at=datetime.fromisoformat(key.created_at),
        retired_at=datetime.fromisoformat(key.retired_at) if key.retired_at else None,
    )


def _newest() -> KeyVersion | None:
    return KeyVersion.objects.select_for_update().filter(retired_at__isnull=True).order_by("-version").first()


def _refuse_to_replace_a_lost_file() -> None:
    if Secret.objects.exists() or KeyVersion.objects.exists():
        message = f"{settings.VAULT_KEY_FILE} is missing, and the database needs it: put it back from a backup."
        raise Misconfigured(message, type="vault_key_missing")


def _mirror_first(ring: Keyring, actor: Actor) -> None:
    with transaction.atomic():
        for key in ring.keys:
            if not KeyVersion.objects.filter(version=key.version).exists():
                add_row(key)
        target = Target("vault_key", str(ring.newest.version), f"v{ring.newest.version}")
        record("key.create", actor=actor, target=target, detail={"fingerprint": ring.newest.fingerprint})


def _incomplete(version: int) -> Misconfigured:
    message = f"The vault key file lacks version {version}: it is older than the database."
    return Misconfigured(message, type="vault_key_incomplete", version=version)


def _place(version: int) -> cipher.Place:
    return cipher.Place("vault-check", "platform", "check", str(version))
