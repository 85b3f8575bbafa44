"""Old rows leave the database for a signed export; a checkpoint takes their place, so the chain stays provable.

The export is a gzip of JSON lines: a header, the rows, and a footer with an Ed25519 signature over all lines before it.
The signing key follows from SECRET_KEY; its public part stands in the checkpoint, so a later one changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from audit.chain import COLUMNS, COVERED, Head, Row, Verdict, verify
from audit.models import AuditEntry, Checkpoint
from audit.services import Target, chain_start, lock_chain, record, verify_chain
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, InvalidField
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.private_files import private_folder, replace_private

FORMAT = 1


@dataclass(frozen=True)
class Archived:
    """What left the database, and where it lies."""

    path: str
    first_id: int
    last_id: int
    sha256: str
    signer: str


def archive(*, before: datetime, output: Path, actor: Actor) -> Archived:
    """Export every row up to the first one that is not older than ``before``, then delete them under a checkpoint.

    Conflict ``nothing_to_archive``, ``audit_broken`` (a chain with a fault is evidence and stays whole); Misconfigured
    ``loose_folder``. Killed in between, the rows are still there, and the same call goes on.
    """
    start, last = chain_start(), _last_before(before)
    if last is None or last.id <= start.id:
        raise Conflict("No row of the audit is that old.", type="nothing_to_archive")
    if fault := verify_chain().fault:
        raise Conflict(f"The chain has a fault, so nothing leaves it: {fault.message}.", type="audit_broken")
    private_folder(output)
    content, signer, signature = _export(start, last)
    path = output / f"zcplatform-audit-{start.id + 1}-{last.id}.jsonl.gz"
    replace_private(path, content)
    failpoint("audit.archive.exported")
    made = Archived(str(path), start.id + 1, last.id, hashlib.sha256(content).hexdigest(), signer)
    _let_go(start, last, made, signature, actor)
    return made


def verify_export(path: Path) -> tuple[Verdict, bool]:
    """The chain inside an export, and whether this database has its checkpoint. InvalidField ``bad_export`` for a file
    that is none, or that was changed."""
    try:
        raw = path.read_bytes()
        *lines, last = gzip.decompress(raw).splitlines(keepends=True)
        header, footer = json.loads(lines[0]), json.loads(last)
        signed = hashlib.sha256(b"".join(lines)).digest()
        VerifyKey(bytes.fromhex(footer["signer"])).verify(signed, bytes.fromhex(footer["signature"]))
        rows = [_row(json.loads(line)) for line in lines[1:]]
        start = Head(header["first_id"] - 1, header["previous_hash"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, BadSignatureError) as error:
        raise InvalidField(f"{path.name} is no export of the audit, or was changed.", type="bad_export") from error
    known = Checkpoint.objects.filter(sha256=hashlib.sha256(raw).hexdigest(), public_key=footer["signer"])
    return verify(lambda: iter(rows), start=start), known.exists()


def _last_before(before: datetime) -> Head | None:
    rows = AuditEntry.objects.order_by("id").values_list("id", "hash")
    younger = rows.filter(created_at__gte=before).first()
    last = rows.filter(id__lt=younger[0]).last() if younger else rows.last()
    return Head(*last) if last else None


def _export(start: Head, last: Head) -> tuple[bytes, str, str]:
    header = {"format": FORMAT, "instance": settings.INSTANCE, "first_id": start.id + 1, "last_id": last.id}
    lines = [_line({**header, "previous_hash": start.hash}), *_rows(start, last)]
    seed = hmac.new(settings.SECRET_KEY.encode(), b"zcplatform audit export", hashlib.sha256).digest()
    key = SigningKey(seed)
    signature = key.sign(hashlib.sha256(b"".join(lines)).digest()).signature.hex()
    signer = key.verify_key.encode().hex()
    lines.append(_line({"signer": signer, "signature": signature, "last_hash": last.hash}))
    return gzip.compress(b"".join(lines), compresslevel=6, mtime=0), signer, signature


def _rows(start: Head, last: Head) -> Iterator[bytes]:
    rows = AuditEntry.objects.filter(id__gt=start.id, id__lte=last.id).order_by("id").values(*COLUMNS)
    for row in rows.iterator(chunk_size=2_000):
        yield _line({**row, "created_at": row["created_at"].isoformat()})


def _let_go(start: Head, last: Head, made: Archived, signature: str, actor: Actor) -> None:
    with transaction.atomic():
        lock_chain()
        if chain_start() != start or not AuditEntry.objects.filter(id=last.id, hash=last.hash).exists():
            raise Conflict("The audit was archived by somebody else meanwhile.", type="archived_meanwhile")
        Checkpoint.objects.create(
            created_at=clock.now(),
            first_id=made.first_id,
            last_id=made.last_id,
            previous_hash=start.hash,
            last_hash=last.hash,
            file_name=Path(made.path).name,
            sha256=made.sha256,
            public_key=made.signer,
            signature=signature,
        )
        detail = {"first": made.first_id, "last": str(last), "sha256": made.sha256, "signer": made.signer}
        target = Target("audit", str(made.last_id), Path(made.path).name)
        record("audit.archive", actor=actor, target=target, detail=detail)
        AuditEntry.objects.filter(id__lte=last.id).delete()
        failpoint("audit.archive.deleted")


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _row(data: dict[str, Any]) -> Row:
    row = {name: data[name] for name in ("id", *COVERED, "hash")}
    return {**row, "created_at": datetime.fromisoformat(row["created_at"])}
