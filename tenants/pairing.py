"""Pairing: a code of eight letters and digits that a device exchanges, once, for an access token of its own.

The code is not stored. It follows from the pepper, the tenant, how many codes are behind it, and the time: so looking
at it changes nothing, using it (or a reset) makes the next one, and it ends by itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F

from tenants import tokens
from tenants.access import require
from tenants.access_tokens import check_room
from tenants.events import emit
from tenants.models import AccessToken, Tenant
from tenants.runs import audit
from tenants.states import Desired
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Misconfigured, NotFound, Unauthenticated
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

HALF_S = 300
"""A code is shown for five minutes and taken for ten: whoever reads it has five at least."""
MAX_CODE = 20


@dataclass(frozen=True)
class Pairing:
    """``code`` like ABCD-EFGH, good for one exchange until ``expires_at``."""

    code: SecretStr
    expires_at: datetime


def current(*, actor: Actor, tenant: Tenant) -> Pairing:
    """The code of now. Changes nothing. Conflict ``tenant_deleted``."""
    require(actor, "pairing.manage", tenant)
    _refuse_deleted(tenant)
    return _pairing(tenant)


def reset(*, actor: Actor, tenant: Tenant) -> Pairing:
    """End the code of now and every access token that was paired; the new code. Conflict ``tenant_deleted``."""
    require(actor, "pairing.manage", tenant)
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        _refuse_deleted(row)
        row.pairing_serial += 1
        row.save(update_fields=["pairing_serial"])
        count = tokens.revoke_all(row, paired_only=True)
        emit(row, "pairing.reset", {"revoked": count})
        audit(row, "pairing.reset", actor, revoked=count)
    return _pairing(row)


def exchange(*, tenant: Tenant, code: str, name: str, actor: Actor) -> tuple[AccessToken, SecretStr]:
    """An access token for a valid code, which is used up by it: of any number of callers at once, one gets it.

    Unauthenticated ``invalid_pairing_code``, audited; InvalidField for the name; Forbidden ``plan_limit`` when the
    tenant has too many live tokens, and then the code stays good.
    """
    name = check_text(name, field="name", max_length=80) or "paired device"
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if row.desired == Desired.DELETED:
            raise NotFound
        if _is_valid(row, code):
            check_room(row)
            Tenant.objects.filter(pk=row.pk).update(pairing_serial=F("pairing_serial") + 1)
            made = tokens.mint(row, name, created_by=actor.label, paired=True)
            about = {"id": str(made[0].public_id), "name": name, "prefix": made[0].prefix}
            emit(row, "pairing.use", about)
            audit(row, "pairing.use", actor, **about)
            return made
        audit(row, "pairing.use", actor, outcome="denied")
    raise Unauthenticated("This pairing code is not valid (any more).", type="invalid_pairing_code")


def _pairing(tenant: Tenant) -> Pairing:
    half = _half()
    return Pairing(SecretStr(_code(tenant, half)), datetime.fromtimestamp((half + 2) * HALF_S, UTC))


def _is_valid(tenant: Tenant, given: str) -> bool:
    text = given.strip().upper().replace("-", "").encode("ascii", "replace")
    codes = [_code(tenant, half).replace("-", "").encode() for half in (_half(), _half() - 1)]
    return any([hmac.compare_digest(text, code) for code in codes])  # noqa: C419 - each is compared


def _half() -> int:
    return int(clock.now().timestamp()) // HALF_S


def _code(tenant: Tenant, half: int) -> str:
    if not settings.PEPPER:
        raise Misconfigured("There is no pepper key yet. Run: zcplatform bootstrap", type="keys_missing")
    message = f"pairing:{tenant.public_id}:{tenant.pairing_serial}:{half}"
    digest = hmac.new(settings.PEPPER.encode(), message.encode(), hashlib.sha256).digest()
    text = base64.b32encode(digest[:5]).decode()
    return f"{text[:4]}-{text[4:]}"


def _refuse_deleted(tenant: Tenant) -> None:
    if tenant.desired == Desired.DELETED:
        raise Conflict("This tenant is deleted or being deleted.", type="tenant_deleted")
