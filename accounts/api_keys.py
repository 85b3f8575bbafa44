"""Personal API keys: 256 random bits, shown once, found by the SHA-256 of the whole value."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import F, QuerySet

from accounts.models import ApiKey, User
from accounts.permissions import SCOPES, abilities_in
from audit.services import Target, record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr, made_up
from zcplatform.lib.text import check_text

PREFIX = "zck_"
SHOWN = 12
"""How many characters are kept to tell keys apart: the prefix and 48 of 256 random bits."""
MAX_DAYS = 366
MAX_KEYS = 50
TOUCH_EVERY = timedelta(minutes=1)


def create(user: User, *, actor: Actor, name: str, scopes: Iterable[str], days: int = 90) -> tuple[ApiKey, SecretStr]:
    """A new key and its value, which nobody can tell again.

    InvalidField for an empty name, unknown scopes or days outside 1 to 366; Forbidden ``scope_too_narrow`` when the
    key would reach further than the credential it is made with; Conflict ``too_many_keys``.
    """
    name = check_text(name, field="name", max_length=80, required=True)
    wanted = _scopes(scopes)
    if not 1 <= days <= MAX_DAYS:
        raise InvalidField(f"A key lives 1 to {MAX_DAYS} days.", field="expires_in_days")
    if actor.limit is not None and not abilities_in(wanted) <= actor.limit:
        raise Forbidden("A key can't reach further than the one it is made with.", type="scope_too_narrow")
    value = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        row = User.objects.select_for_update().get(pk=user.pk)
        if alive(row).count() >= MAX_KEYS:
            raise Conflict(f"Nobody has more than {MAX_KEYS} API keys; revoke one first.", type="too_many_keys")
        key = ApiKey.objects.create(
            user=row,
            name=name,
            prefix=value[:SHOWN],
            key_hash=hash_of(value),
            scopes=wanted,
            stamp=row.stamp,
            expires_at=clock.now() + timedelta(days=days),
        )
        record("api_key.create", actor=actor, target=_target(key), detail={"scopes": wanted, "days": days})
    return key, made_up(value)


def revoke(key: ApiKey, *, actor: Actor) -> None:
    """End a key for good. NotFound when it has ended already."""
    with transaction.atomic():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now()) == 0:
            raise NotFound("This key has been revoked already.")
        record("api_key.revoke", actor=actor, target=_target(key))


def alive(user: User) -> QuerySet[ApiKey]:
    """The keys of a user that work now, newest first."""
    return _valid().filter(user=user).order_by("-created_at")


def find(value: str) -> ApiKey | None:
    """The working key with this value, its user loaded."""
    return _valid().filter(key_hash=hash_of(value)).select_related("user").first()


def is_valid(public_id: str) -> bool:
    """Whether the key with this id works now."""
    return _valid().filter(public_id=public_id).exists()


def touch(key: ApiKey) -> None:
    """Note that the key is used, at most once a minute."""
    now = clock.now()
    if key.last_used_at is None or now - key.last_used_at >= TOUCH_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def hash_of(value: str) -> str:
    """The whole of the value goes into the hash: no prefix of a key finds it, and neither does its hash."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def _valid() -> QuerySet[ApiKey]:
    found = ApiKey.objects.filter(revoked_at=None, expires_at__gt=clock.now())
    return found.filter(user__is_active=True, stamp=F("user__stamp"))


def _scopes(scopes: Iterable[str]) -> list[str]:
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise InvalidField(f"One or more of {', '.join(SCOPES)}.", type="invalid_scope", field="scopes")
    return wanted


def _target(key: ApiKey) -> Target:
    return Target("api_key", str(key.public_id), key.prefix)
