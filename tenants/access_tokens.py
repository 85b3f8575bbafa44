"""Making and revoking a tenant's access tokens: who may, how many, and the audit of it."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from tenants import tokens
from tenants.access import require
from tenants.events import emit
from tenants.models import AccessToken, Tenant
from tenants.runs import audit
from tenants.states import Desired
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

MAX_LIVE = 50
"""Tokens of one tenant that are neither revoked nor expired."""


def issue(
    *, actor: Actor, tenant: Tenant, name: str, expires_at: datetime | None = None
) -> tuple[AccessToken, SecretStr]:
    """A new token and its value, which nobody can tell again. Forbidden ``plan_limit`` at ``MAX_LIVE`` live ones.

    InvalidField for the name or an end that is over already, Conflict ``tenant_deleted``.
    """
    require(actor, "tokens.manage", tenant)
    name = check_text(name, field="name", max_length=80, required=True)
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidField("A token has to expire in the future.", field="expires_at")
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if row.desired == Desired.DELETED:
            raise Conflict("This tenant is deleted or being deleted.", type="tenant_deleted")
        check_room(row)
        return _mint(row, name, actor, expires_at)


def check_room(tenant: Tenant) -> None:
    """Forbidden ``plan_limit`` when the tenant can't have one more live token; under the tenant's lock."""
    if tokens.live().filter(tenant=tenant).count() >= MAX_LIVE:
        message = f"A tenant has at most {MAX_LIVE} live tokens; revoke one first."
        raise Forbidden(message, type="plan_limit", limit=MAX_LIVE)


def revoke(*, actor: Actor, token: AccessToken) -> None:
    """End a token at once; one that is revoked already stays as it is. NotFound."""
    tenant = token.tenant
    require(actor, "tokens.manage", tenant)
    with transaction.atomic():
        row = AccessToken.objects.select_for_update().filter(pk=token.pk, tenant=tenant).first()
        if row is None:
            raise NotFound("There is no such token.")
        if row.revoked_at is not None:
            return
        row.revoked_at = clock.now()
        row.save(update_fields=["revoked_at"])
        _tell(row, tenant, "token.revoke", actor)


def replace_all(tenant: Tenant, name: str, *, actor: Actor) -> SecretStr:
    """Revoke every token and make one; inside the caller's transaction and after its check of who may."""
    with transaction.atomic():
        count = tokens.revoke_all(tenant)
        if count:
            emit(tenant, "token.revoke", {"count": count})
            audit(tenant, "token.revoke", actor, count=count)
        return _mint(tenant, name, actor, None)[1]


def find(tenant: Tenant, text: str) -> AccessToken:
    """The tenant's token with this public id or prefix. NotFound, Conflict ``ambiguous``."""
    rows = AccessToken.objects.filter(tenant=tenant)
    try:
        found = list(rows.filter(public_id=uuid.UUID(text)))
    except ValueError:
        found = list(rows.filter(prefix=text)[:2])
    if not found:
        raise NotFound(f"{tenant.slug} has no token “{text}”.")
    if len(found) > 1:
        raise Conflict("Two tokens begin like this; name the one by its id.", type="ambiguous")
    return found[0]


def _mint(tenant: Tenant, name: str, actor: Actor, expires_at: datetime | None) -> tuple[AccessToken, SecretStr]:
    token, value = tokens.mint(tenant, name, created_by=actor.label, expires_at=expires_at)
    _tell(token, tenant, "token.create", actor)
    return token, value


def _tell(token: AccessToken, tenant: Tenant, action: str, actor: Actor) -> None:
    about = {"id": str(token.public_id), "name": token.name, "prefix": token.prefix}
    emit(tenant, action, about)
    audit(tenant, action, actor, **about)
