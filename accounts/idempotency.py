"""Writes that a client may send again without fear: the first answer to a key is remembered for a day."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts.grants import Grant, noting
from accounts.models import IdempotencyKey
from zcplatform.lib import clock
from zcplatform.lib.errors import Conflict, InvalidField
from zcplatform.lib.redact import censor

KEEP = timedelta(hours=24)
# When an act has not ended after this time, the process that ran it is taken for dead.
ABANDONED = timedelta(minutes=2)
_KEY = re.compile(r"[\x21-\x7e]{1,128}")

Answer = tuple[int, Any]


def run_once(
    scope: str,
    key: str,
    fingerprint: str,
    act: Callable[[], Answer],
    *,
    allow: Callable[[list[Grant]], None] | None = None,
) -> tuple[int, Any, bool]:
    """``act()`` once per ``scope`` and ``key``: (status, body, whether it is the remembered answer).

    ``scope`` holds the caller with the credential in use and the route, ``fingerprint`` the request (see
    ``fingerprint_of``). ``act`` runs in the transaction that stores its answer, so both happen or neither, even when
    the process is killed; it must be short and do no more than write to the database. When it raises, the key is free
    again; when it answers 4xx or more, what it wrote stays and the key is free too: a refusal is not what the caller
    asked for. The answer is remembered without the secrets in it: what is shown once is not shown by sending the
    request again. Before it is told again, ``allow`` gets what the act was allowed by, and raises when that no longer
    holds; without ``allow``, the caller has asked already.

    Raises InvalidField ``invalid_idempotency_key`` and ``idempotency_mismatch`` (the key came with another request),
    Conflict ``idempotency_in_progress``.
    """
    if not _KEY.fullmatch(key):
        raise InvalidField(
            "An Idempotency-Key has 1 to 128 printable ASCII characters.", type="invalid_idempotency_key"
        )
    mine = _begin(scope, key, fingerprint)
    if isinstance(mine, IdempotencyKey):
        if allow is not None:
            allow([(kind, what, where) for kind, what, where in mine.grants])
        return mine.status or 200, mine.response, True
    ours = IdempotencyKey.objects.filter(scope=scope, key=key, status=None, created_at=mine)
    try:
        with transaction.atomic(), noting() as grants:
            status, body = act()
            if status >= 400:
                ours.delete()
            elif ours.update(status=status, response=censor(body), grants=grants) != 1:
                raise _in_progress()  # overtaken: another process does the act, ours is rolled back
    except BaseException:
        ours.delete()
        raise
    return status, body, False


def fingerprint_of(method: str, path: str, body: bytes) -> str:
    """What makes two requests the same one."""
    parts = (method.encode(), path.encode(), body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).hexdigest()


def prune() -> int:
    """Forget answers older than a day; how many they were."""
    return IdempotencyKey.objects.filter(created_at__lt=clock.now() - KEEP).delete()[0]


def _begin(scope: str, key: str, fingerprint: str) -> IdempotencyKey | datetime:
    """The row with the remembered answer, or the time that marks the key as taken by us."""
    now = clock.now()
    try:
        with transaction.atomic():
            IdempotencyKey.objects.create(scope=scope, key=key, fingerprint=fingerprint, created_at=now)
        return now
    except IntegrityError:
        row = IdempotencyKey.objects.filter(scope=scope, key=key).first()
    if row is None:  # its act has failed just now
        raise _in_progress()
    if row.fingerprint != fingerprint:
        raise InvalidField("This Idempotency-Key came with another request before.", type="idempotency_mismatch")
    if row.status is not None:
        return row
    abandoned = IdempotencyKey.objects.filter(pk=row.pk, status=None, created_at__lt=now - ABANDONED)
    if abandoned.update(created_at=now) != 1:
        raise _in_progress()
    return now


def _in_progress() -> Conflict:
    return Conflict("The first request with this Idempotency-Key is still running.", type="idempotency_in_progress")
