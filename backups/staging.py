"""An archive, unpacked into a folder that looks like a home, and found to be sound."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from backups import archive, manifest, places
from backups.errors import ArchiveRefused
from backups.making import Say
from backups.manifest import Manifest
from vault import keyfile, signing
from zcplatform.lib import child, env, postgres, swap
from zcplatform.lib.errors import DependencyDown, FaultError, Misconfigured
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.redact import scrub

LIMIT_S = 3_600
log = logging.getLogger(__name__)
RESERVE_BYTES = 64 << 20
DATABASE = "zcplatform.db"
_REPLACED = ("HOME", "CONFIG", "KEYS_DIR", "VAULT_KEY_FILE", "DATABASE_URL", "INSTANCE")


@dataclass(frozen=True)
class Staged:
    """A sound backup in ``folder``. ``database`` is the staged file, or the name of the staged PostgreSQL database.
    ``migrated`` are migrations that were applied to it, ``unreadable`` counts secrets that do not open."""

    folder: Path
    about: Manifest
    database: str
    migrated: list[str]
    unreadable: int


@contextmanager
def staged(source: Path, *, say: Say, note: dict[str, Any] | None = None) -> Iterator[Staged]:
    """Unpack ``source`` below the home and look at everything; gone at the end. ``note`` becomes the audit row of the
    restored database. ArchiveRefused, and what the vault says of its keys; nothing else is touched."""
    with _scratch() as folder:
        about = _unpack(source, folder, say)
        failpoint("restore.unpacked")
        _check_signature(folder, about)
        with _database(folder, about) as (database, url):
            say("looking at its database", 0, 0)
            found = _examine(folder, about, url, note)
            failpoint("restore.examined")
            yield Staged(folder, about, database, found["migrated"], found["unreadable"])


def clear(home: Path) -> int:
    """Remove what killed restores left; those that live hold a lock. Returns how many went. Needs a settled journal."""
    gone = 0
    for path in _unused(home):
        path.unlink(missing_ok=True)
        gone += 1
    for folder in home.glob("restore/staged-*"):
        with _locked(folder) as mine:
            if mine:
                shutil.rmtree(folder, ignore_errors=True)
                gone += 1
    return gone


def _unused(home: Path) -> list[Path]:
    """Files that were brought beside their places, and journals that were begun, by what was killed then."""
    everything = [*places.files().values(), *places.databases()]
    beside = [path for place in everything for path in place.parent.glob(f".{place.name}.new-*")]
    return [*beside, *home.glob("restore/.journal.json.*.tmp")]


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = swap.folder(Path(settings.HOME)) / f"staged-{swap.mark()}"
    folder.mkdir(mode=0o700)
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _unpack(source: Path, folder: Path, say: Say) -> Manifest:
    try:
        with source.open("rb") as file:
            reader = archive.Reader(file)
            _refuse_other_database(reader.manifest)
            _refuse_lack_of_room(reader.manifest, folder)
            reader.extract(folder, lambda done, total: say("unpacking", done, total))
            return reader.manifest
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArchiveRefused(f"There is no archive at {source}.", type="archive_missing") from error
    except OSError as error:
        text = f"The archive can't be unpacked: {error.strerror} ({error.filename or source})."
        raise DependencyDown(text, type="storage_full") from error


def _refuse_other_database(about: Manifest) -> None:
    mine = "sqlite" if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") else "postgresql"
    if about.vendor != mine:
        text = f"The backup holds a database of {about.vendor}; this installation uses {mine}."
        raise ArchiveRefused(text, type="archive_database")


def _refuse_lack_of_room(about: Manifest, folder: Path) -> None:
    needed = sum(member.size for member in about.members) + RESERVE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        text = f"The backup unpacks to {needed >> 20} MB, and only {free >> 20} MB are free below {settings.HOME}."
        raise DependencyDown(text, type="storage_full")


def _check_signature(folder: Path, about: Manifest) -> None:
    ring = keyfile.parse((folder / places.VAULT).read_bytes(), settings.VAULT_PASSPHRASE)
    if not signing.verify(ring, about.signed(), about.signature):
        text = "The manifest was not signed with the vault key that lies beside it: the archive was put together."
        raise ArchiveRefused(text, type="archive_signature")


@contextmanager
def _database(folder: Path, about: Manifest) -> Iterator[tuple[str, str]]:
    """Where the staged database is, and its address. A PostgreSQL one is dropped at the end, unless it was renamed."""
    if about.vendor == "sqlite":
        path = folder / DATABASE
        (folder / manifest.SQLITE).rename(path)
        yield str(path), ""
        return
    name = f"zcplatform_staged_{swap.mark()}"
    url = postgres.another(settings.DATABASE_URL, name)
    postgres.create(settings.DATABASE_URL, name)
    try:
        postgres.load(url, folder / manifest.POSTGRES)
        yield name, url
    finally:
        postgres.drop(settings.DATABASE_URL, name)


def _examine(folder: Path, about: Manifest, url: str, note: dict[str, Any] | None) -> dict[str, Any]:
    order = {"rows": about.rows, "environment": about.environment, "note": note}
    argv = child.module("backups.staged")
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(order),
            env=_environment(folder, url),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ArchiveRefused(f"Looking at its database took more than {LIMIT_S} s.", type="archive_bomb") from error
    except (ValueError, IndexError) as error:
        log.error("the process that looks at a backup failed: %s", scrub(done.stderr[-2_000:]))
        raise FaultError("The unpacked backup can't be looked at; the log says why.") from error
    if "error" in told:
        raise _error(told["error"])
    result: dict[str, Any] = told["ok"]
    return result


def _error(told: dict[str, str]) -> Exception:
    if told["type"].startswith("archive_"):
        return ArchiveRefused(told["message"], type=told["type"])
    return Misconfigured(told["message"], type=told["type"])


def _environment(folder: Path, url: str) -> dict[str, str]:
    """The caller's, with the staged folder as the home and nothing of the caller's own installation."""
    dropped = {env.PREFIX + name + suffix for name in _REPLACED for suffix in ("", "_FILE")}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    own = {"HOME": str(folder), "CONFIG": str(folder / "platform.toml"), **({"DATABASE_URL": url} if url else {})}
    return {
        **kept,
        **{env.PREFIX + name: value for name, value in own.items()},
        "DJANGO_SETTINGS_MODULE": "zcplatform.settings",
        "PYTHONPATH": child.python_path(),
    }
