"""Access tokens: the bearers of a tenant's chat door. Shown once, stored as SHA-256, found by that alone."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from tenants.models import AccessToken, Tenant
from tenants.states import Status
from zcplatform.lib import clock
from zcplatform.lib.redact import SecretStr, made_up

PREFIX = "zct_"
SHOWN = 12
"""How many characters are kept to tell tokens apart: the prefix and 48 of 256 random bits."""
TOUCH_EVERY = timedelta(minutes=1)


def mint(
    tenant: Tenant, name: str, *, created_by: str, expires_at: datetime | None = None, paired: bool = False
) -> tuple[AccessToken, SecretStr]:
    """A new token and its value, which nobody can tell again. The caller writes the audit."""
    value = PREFIX + secrets.token_urlsafe(32)
    token = AccessToken.objects.create(
        tenant=tenant,
        name=name,
        prefix=value[:SHOWN],
        token_hash=token_hash(value),
        created_by=created_by,
        expires_at=expires_at,
        paired=paired,
    )
    return token, made_up(value)


def token_hash(value: str) -> str:
    """The whole of the value goes into the hash: no prefix of a token finds it, and neither does its hash."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def lookup(value: str) -> AccessToken | None:
    """The token when it is neither revoked nor expired and its tenant not deleted; tenant and node in one query."""
    return (
        live()
        .select_related("tenant__node")
        .filter(token_hash=token_hash(value))
        .exclude(tenant__status=Status.DELETED)
        .first()
    )


def live() -> QuerySet[AccessToken]:
    """Every token that is neither revoked nor expired."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
    return AccessToken.objects.filter(unexpired, revoked_at__isnull=True)


def touch(token: AccessToken) -> None:
    """Remember that the token was used, with at most one write a minute."""
    now = clock.now()
    if token.last_used_at is None or token.last_used_at < now - TOUCH_EVERY:
        AccessToken.objects.filter(pk=token.pk).update(last_used_at=now)


def revoke_all(tenant: Tenant, *, paired_only: bool = False) -> int:
    """Revoke what is not yet revoked; the number of tokens. The caller writes the audit."""
    rows = AccessToken.objects.filter(tenant=tenant, revoked_at__isnull=True)
    return (rows.filter(paired=True) if paired_only else rows).update(revoked_at=clock.now())
