"""Making a backup: snapshot, keys and manifest staged beside their archive, which gets its name when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from audit.services import Target, record
from backups import archive, aside, folder, manifest, places, results, snapshot
from backups.manifest import Manifest, Member
from vault import keyfile, signing
from vault.services import verify_against
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, DependencyDown, Misconfigured, ZCError
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.private_files import check_private, private_folder, sync_folder, write_private
from zcplatform.lib.swap import mark

Say = Callable[[str, int, int], None]
"""Called with what is done, and how much of how much: bytes, both 0 where that is not known."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_NAMING_TRIES = 5


@dataclass(frozen=True)
class Made:
    """What a backup came to. Sizes in bytes, times in seconds; ``removed`` are names of older archives."""

    path: str
    size: int
    database_bytes: int
    snapshot_s: float
    total_s: float
    wrapped: bool
    removed: list[str]


def make(output: Path, *, keep: int, say: Say, actor: Actor) -> Made:
    """See ``services.backup``."""
    try:
        made = archive_of(output, keep=keep, say=say)
    except (ZCError, OSError, DatabaseError) as error:
        known = error if isinstance(error, ZCError) else _fault(error)
        _tell_failure(known, actor, output)
        raise known from error
    failpoint("backup.named")
    with transaction.atomic():
        if results.counts(results.BACKUP, output):
            results.note(results.BACKUP, ok=True, detail=made.path)
        target = Target("backup", Path(made.path).name[:64], Path(made.path).name)
        record("platform.backup", actor=actor, target=target, detail=asdict(made))
    failpoint("backup.recorded")
    return made


def archive_of(output: Path, *, keep: int, say: Say, behind: bool = False) -> Made:
    """The archive alone, with nothing written to the database. ``behind``: its schema may be older than this code, so
    nothing is read by our models but counts; whoever restores it looks at the rest after migrating."""
    began = time.monotonic()
    private_folder(output)
    marked = mark()
    with folder.alone(output), folder.staging(output, marked) as staged:
        failpoint("backup.begun")
        about, took = _stage(staged, say, behind)
        failpoint("backup.staged")
        temporary = folder.temporary(output, marked)
        try:
            _write(temporary, staged, about, say)
            failpoint("backup.written")
            path = _name(temporary, output)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        removed = folder.prune(output, keep) if keep else []
        size, total = path.stat().st_size, time.monotonic() - began
        return Made(str(path), size, about.database.size, round(took, 2), round(total, 2), about.wrapped, removed)


def _stage(staged: Path, say: Say, behind: bool) -> tuple[Manifest, float]:
    """Everything that goes into the archive, and what is said of it; and the seconds that the snapshot took."""
    say("copying the database", 0, 0)
    began = time.monotonic()
    (staged / "keys").mkdir(mode=0o700)
    with snapshot.taken(staged) as copy:
        took = time.monotonic() - began
        failpoint("backup.snapshot")
        ring = _copy_vault(staged)
        if not behind:
            verify_against(ring, using=copy.using)  # read after the snapshot, so the file knows at least its versions
        rows, migrations = aside.row_counts(copy.using), aside.newest_migrations(copy.using)
    names = [*_copy_small(staged), places.VAULT, copy.name]
    about = Manifest(
        made_at=clock.now().isoformat(),
        version=settings.VERSION,
        vendor=connection.vendor,
        instance=settings.INSTANCE,
        migrations=migrations,
        rows=rows,
        vault={str(key.version): key.fingerprint for key in ring.keys},
        wrapped=bool(settings.VAULT_PASSPHRASE),
        environment=places.from_environment(),
        members=[_member(staged, name, say) for name in names],
    )
    return replace(about, signature=signing.sign(ring, about.signed())), took


def _copy_vault(staged: Path) -> keyfile.Keyring:
    """The vault's key file; wrapped where a passphrase is set, even if the file itself is not yet."""
    path = Path(settings.VAULT_KEY_FILE)
    if not path.exists():
        raise Misconfigured(f"There is no vault key file at {path}.", type="vault_key_missing")
    check_private(path)
    content = path.read_bytes()
    ring = keyfile.parse(content, settings.VAULT_PASSPHRASE)
    if settings.VAULT_PASSPHRASE and not ring.wrapped:
        content = keyfile.dump(ring, settings.VAULT_PASSPHRASE)
    write_private(staged / places.VAULT, content)
    return ring


def _copy_small(staged: Path) -> list[str]:
    """The other keys, the id and the configuration, as far as they are there; their names."""
    copied = []
    for name, path in places.files().items():
        if name == places.VAULT or not path.is_file():
            continue
        write_private(staged / name, path.read_bytes())
        copied.append(name)
    if "instance.id" not in copied:
        write_private(staged / "instance.id", settings.INSTANCE.encode())
        copied.append("instance.id")
    return copied


def _member(staged: Path, name: str, say: Say) -> Member:
    digest, size, total = hashlib.sha256(), 0, (staged / name).stat().st_size
    with (staged / name).open("rb") as file:
        while chunk := file.read(archive.CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if name not in manifest.SMALL:
                say("reading it back", size, total)
    return Member(name, size, digest.hexdigest())


def _write(temporary: Path, staged: Path, about: Manifest, say: Say) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        archive.write(file, about.dump(), staged, about.members, lambda done, total: say("packing", done, total))
        file.flush()
        os.fsync(file.fileno())


def _name(temporary: Path, output: Path) -> Path:
    """Give the archive its name, which nothing else has: two within one second wait for the next."""
    for _ in range(_NAMING_TRIES):
        path = output / folder.name_at(clock.now())
        try:
            os.link(temporary, path)
        except FileExistsError:
            time.sleep(1)
            continue
        temporary.unlink()
        sync_folder(output)
        return path
    raise Conflict(f"Archives in {output} have taken every name of the last seconds.", type="backup_name_taken")


def _fault(error: Exception) -> ZCError:
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" ({error.filename})" if error.filename else ""
        return DependencyDown(f"The backup can't be written{where}: {error.strerror}.", type="storage_full")
    kind = "database_unavailable" if isinstance(error, DatabaseError) else "backup_failed"
    return DependencyDown(f"The backup failed: {error}", type=kind)


def _tell_failure(error: ZCError, actor: Actor, output: Path) -> None:
    """That another one is at work is no failure of the job: the other one says how that ends."""
    if not all(path.exists() for path in places.databases()):
        return  # there is nothing to write it into, and nothing may be begun anew
    if results.counts(results.BACKUP, output) and error.type != "backup_in_progress":
        results.note_failure(results.BACKUP, f"{error.type}: {error.message}")
    with _whatever_happens(), transaction.atomic():
        record("platform.backup", actor=actor, outcome="failed", detail={"type": error.type, "error": error.message})


@contextmanager
def _whatever_happens() -> Iterator[None]:
    """The database may be what failed."""
    try:
        yield
    except DatabaseError:
        results.log.exception("the failed backup can't be told to the audit")
