"""Rotation of the vault's key: append a version, re-encrypt in batches, retire what nothing needs any more.

It may be killed anywhere and is finished by the next one: the new version is in the file before the database
knows it, old versions stay in the file until ``remove_key``, and every batch is a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from audit.services import Target, record
from vault import cipher, keyring
from vault.keyfile import Key, Keyring
from vault.mirror import add_row, verify_keyring
from vault.models import KeyVersion, Secret
from vault.sealing import open_row, place_of
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, Misconfigured, NotFound, VaultError
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.text import counted

Progress = Callable[[int, int], None]
PASSES = 5


@dataclass(frozen=True)
class Rotation:
    """What a rotation did. ``version`` writes now; ``unreadable`` are public ids of secrets that do not open and so
    keep their old key from being retired; ``resumed`` tells that an earlier, unfinished rotation was completed."""

    version: int
    resumed: bool
    reencrypted: int
    retired: tuple[int, ...]
    unreadable: tuple[str, ...]


def rotate(*, batch: int = 200, on_progress: Progress | None = None, actor: Actor = OPERATOR) -> Rotation:
    """Put every secret under a new key version, or finish the rotation that an earlier call began.

    ``on_progress(done, total)`` is called after each batch of ``batch`` secrets. Conflict ``rotation_in_progress``
    while another one runs; Misconfigured as ``verify_keyring``. Every secret stays readable throughout.
    """
    with keyring.exclusive():
        ring = verify_keyring()
        if not KeyVersion.objects.exists():
            raise Misconfigured("The vault has no key yet: run bootstrap.", type="vault_key_missing")
        resumed = is_unfinished(ring)
        if not resumed:
            ring = ring.appended(clock.now().isoformat())
            failpoint("vault.rotate.append")
            keyring.save(ring)
        failpoint("vault.rotate.appended")
        _mirror(ring.newest, actor)
        failpoint("vault.rotate.mirrored")
        return _finish(ring, resumed, batch, on_progress, actor)


def is_unfinished(ring: Keyring) -> bool:
    """Whether a rotation was begun and not brought to its end: an older version still counts, in file or database."""
    newest = ring.newest.version
    return (
        any(key.retired_at is None for key in ring.keys[:-1])
        or KeyVersion.objects.filter(retired_at__isnull=True).exclude(version=newest).exists()
        or _stale(newest).exists()
    )


def remove_key(version: int, *, actor: Actor = OPERATOR) -> None:
    """Remove a retired version from file and database, for good: older backups can't be restored without it.

    NotFound; Conflict ``key_in_use`` (with ``secrets``) or ``key_not_retired`` while it is needed.
    """
    with keyring.exclusive():
        ring = verify_keyring()
        key = ring.get(version)
        if key is None:
            raise NotFound(f"The vault key has no version {version}.")
        with transaction.atomic():
            _refuse_removal(ring, key)
            KeyVersion.objects.filter(version=version).delete()
            record("key.remove", actor=actor, target=_target(key), detail={"fingerprint": key.fingerprint})
        failpoint("vault.remove.row")
        keyring.save(ring.without(version))


def status() -> dict[str, Any]:
    """Versions of file and database, how many secrets each has, and whether a rotation runs or waits to be finished."""
    ring = verify_keyring()
    rows = {row.version: row for row in KeyVersion.objects.all()}
    counts = dict(Secret.objects.values_list("key_version").annotate(Count("pk")).order_by())
    versions = [
        {
            "version": key.version,
            "fingerprint": key.fingerprint[:16],
            "created_at": key.created_at,
            "retired_at": key.retired_at,
            "mirrored": key.version in rows,
            "secrets": counts.get(key.version, 0),
        }
        for key in ring.keys
    ]
    return {
        "current": max((v for v, row in rows.items() if row.retired_at is None), default=None),
        "wrapped": ring.wrapped,
        "running": keyring.is_locked(),
        "unfinished": is_unfinished(ring),
        "versions": versions,
    }


def _mirror(key: Key, actor: Actor) -> None:
    with transaction.atomic():
        if not KeyVersion.objects.filter(version=key.version).exists():
            add_row(key)
            record("key.rotate", actor=actor, target=_target(key), detail={"fingerprint": key.fingerprint})
            failpoint("vault.rotate.mirroring")


def _finish(ring: Keyring, resumed: bool, batch: int, on_progress: Progress | None, actor: Actor) -> Rotation:
    """Re-encrypt and retire. A transaction that began before the new version was known may still store under the old
    one when the first pass is over; the next pass finds it."""
    reencrypted, retired = 0, set[int]()
    for _ in range(PASSES):
        stored, unreadable = _reencrypt(ring.newest, batch, on_progress)
        failpoint("vault.rotate.reencrypted")
        reencrypted += stored
        retired |= _retire(ring, actor)
        if unreadable or not is_unfinished(keyring.load()):
            break
    return Rotation(ring.newest.version, resumed, reencrypted, tuple(sorted(retired)), unreadable)


def _stale(version: int) -> QuerySet[Secret]:
    """Secrets that are not wholly under ``version``, by their column or by what their ciphertext says."""
    return Secret.objects.exclude(key_version=version, ciphertext__startswith=f"v{version}:")


def _reencrypt(key: Key, size: int, on_progress: Progress | None) -> tuple[int, tuple[str, ...]]:
    stale = _stale(key.version)
    total, seen, done = stale.count(), 0, 0
    unreadable: list[str] = []
    for rows in _batches(stale, size):
        fresh = [(row, text) for row in rows if (text := _resealed(row, key, unreadable))]
        done += _store(fresh, key)
        seen += len(rows)
        if on_progress:
            on_progress(seen, max(total, seen))
        failpoint("vault.rotate.batch")
    return done, tuple(unreadable)


def _batches(stale: QuerySet[Secret], size: int) -> Iterator[list[Secret]]:
    last = 0
    while rows := list(stale.filter(pk__gt=last).order_by("pk")[:size]):
        yield rows
        last = rows[-1].pk


def _resealed(row: Secret, key: Key, unreadable: list[str]) -> str:
    """The row's value under ``key``; empty, and noted, when it does not open: the rest must not wait for it."""
    try:
        return cipher.encrypt(open_row(row), key=key.secret, version=key.version, place=place_of(row))
    except VaultError:
        unreadable.append(str(row.public_id))
        return ""


def _store(fresh: list[tuple[Secret, str]], key: Key) -> int:
    """Write one batch. A secret that was replaced since it was read keeps its new value."""
    stored = 0
    with transaction.atomic():
        for row, text in fresh:
            unchanged = Secret.objects.filter(pk=row.pk, ciphertext=row.ciphertext)
            stored += unchanged.update(ciphertext=text, key_version=key.version)
            failpoint("vault.rotate.row")
    return stored


def _retire(ring: Keyring, actor: Actor) -> set[int]:
    """Retire the versions that no secret needs, in the database first: the file follows, now or in the next call."""
    with transaction.atomic():
        older = KeyVersion.objects.select_for_update().filter(retired_at__isnull=True, version__lt=ring.newest.version)
        free = [row.version for row in older.order_by("version") if not _needed(row.version)]
        if free:
            KeyVersion.objects.filter(version__in=free).update(retired_at=clock.now())
            record("key.retire", actor=actor, target=_target(ring.newest), detail={"retired": free})
    failpoint("vault.rotate.retired")
    rows = set(KeyVersion.objects.filter(retired_at__isnull=False).values_list("version", flat=True))
    if any(key.retired_at is None and key.version in rows for key in ring.keys):
        keyring.save(ring.retired(rows, clock.now().isoformat()))
    failpoint("vault.rotate.done")
    return set(free)


def _refuse_removal(ring: Keyring, key: Key) -> None:
    needed = _needed(key.version)
    if needed or key.version == ring.newest.version:
        why = f"is needed by {counted(needed, 'secret')}" if needed else "is the newest"
        message = f"Version {key.version} of the vault key {why}: rotate first."
        raise Conflict(message, type="key_in_use", version=key.version, secrets=needed)
    if key.retired_at is None or KeyVersion.objects.filter(version=key.version, retired_at__isnull=True).exists():
        raise Conflict(f"Version {key.version} is not retired: rotate first.", type="key_not_retired")


def _needed(version: int) -> int:
    """How many secrets need that version, by their column or by what their ciphertext says."""
    return Secret.objects.filter(Q(key_version=version) | Q(ciphertext__startswith=f"v{version}:")).count()


def _target(key: Key) -> Target:
    return Target("vault_key", str(key.version), f"v{key.version}")
