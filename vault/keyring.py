"""The vault's key file (``VAULT_KEY_FILE``): read only when it is private, replaced whole, one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from vault import keyfile
from vault.keyfile import Key, Keyring
from zcplatform.lib import locks
from zcplatform.lib.errors import Conflict, Misconfigured
from zcplatform.lib.private_files import check_private, replace_private, write_private

WAIT_S = 60.0
_Signature = tuple[str, int, int, int, int, int]
_cached: tuple[_Signature, Keyring] | None = None


def exists() -> bool:
    """True for anything at the file's place, a dangling link too."""
    return os.path.lexists(_path())


def load(*, fresh: bool = False) -> Keyring:
    """The keys. Read again when the file has changed, or with ``fresh``.

    Misconfigured: ``vault_key_missing``, ``vault_key_loose`` (mode, owner, link, folder), ``vault_key_unreadable``,
    and what ``keyfile.parse`` raises.
    """
    global _cached
    path = _path()
    try:
        check_private(path)
        signature = _signature(path)
        if fresh or _cached is None or _cached[0] != signature:
            _cached = signature, keyfile.parse(path.read_bytes(), settings.VAULT_PASSPHRASE)
    except ImproperlyConfigured as error:
        raise Misconfigured(str(error), type="vault_key_loose") from None
    except FileNotFoundError:
        raise Misconfigured(f"There is no vault key file at {path}.", type="vault_key_missing") from None
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}.", type="vault_key_unreadable") from None
    return _cached[1]


def key(version: int) -> Key | None:
    """The key of that version; the file is read again when it is unknown, since another process may have rotated."""
    return load().get(version) or load(fresh=True).get(version)


def create(ring: Keyring) -> None:
    """Write a first key file; FileExistsError when something is there."""
    write_private(_path(), keyfile.dump(ring, settings.VAULT_PASSPHRASE))


def save(ring: Keyring) -> None:
    """Replace the file: whoever reads, and whatever is killed, sees the old or the new one. Needs ``exclusive``."""
    replace_private(_path(), keyfile.dump(ring, settings.VAULT_PASSPHRASE))


@contextmanager
def exclusive(*, wait: bool = False) -> Iterator[None]:
    """Be the only one who changes keys on this host; a killed holder lets go.

    Conflict ``rotation_in_progress`` when another holds it, unless ``wait``: then after a minute.
    """
    lock = _path().with_name(_path().name + ".lock")
    try:
        descriptor = locks.take(lock, wait_s=WAIT_S if wait else 0)
    except FileNotFoundError:
        raise Misconfigured(f"There is no folder {lock.parent}: run bootstrap.", type="vault_key_missing") from None
    except OSError as error:
        raise Misconfigured(f"{lock}: {error.strerror}.", type="vault_key_unreadable") from None
    except locks.Busy:
        raise Conflict("The vault's keys are being changed by another process.", type="rotation_in_progress") from None
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked() -> bool:
    """Whether somebody changes keys at this moment."""
    try:
        with exclusive():
            return False
    except Conflict:
        return True


def _path() -> Path:
    return Path(settings.VAULT_KEY_FILE)


def _signature(path: Path) -> _Signature:
    """What changes with the file and the passphrase; the passphrase by its hash, since frames of errors show this."""
    info, words = path.stat(), hash(settings.VAULT_PASSPHRASE)
    return str(path), words, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
