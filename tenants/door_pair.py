"""``POST /pair`` at a tenant's address: a device brings a pairing code and gets an access token of its own."""

from __future__ import annotations

import json
from typing import Any

from accounts import rates
from tenants import pairing
from tenants.models import Tenant
from tenants.pairing import MAX_CODE
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField, NotFound, RequestError

PER_CALLER = "10/minute"
"""To one tenant from one network. There is no budget that all share: strangers could spend it, and no device would
pair. Codes have 40 bits and live ten minutes, so a thousand guesses a second find one in some fifty years."""
FIELDS = ("code", "name")


def parse(content: bytes) -> dict[str, str]:
    """``code`` and perhaps ``name``. RequestError ``bad_json``, InvalidField for another shape."""
    try:
        body: Any = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RequestError("The body is not JSON.", type="bad_json") from error
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise InvalidField("The body must be an object with texts.", field="")
    for name in body:
        if name not in FIELDS:
            raise InvalidField("There is no such field.", field=str(name)[:64])
    if not 0 < len(body.get("code", "")) <= MAX_CODE:
        raise InvalidField("A pairing code looks like ABCD-EFGH.", field="code")
    return body


def pair(slug: str, body: dict[str, str], ip: str, request_id: str) -> dict[str, Any]:
    """The answer's body, with the token that nobody can tell again. NotFound, RateLimited, Unauthenticated."""
    tenant = Tenant.objects.alive().filter(slug=slug).first() if slug else None
    if tenant is None:
        raise NotFound
    rates.spend(PER_CALLER, "pair", str(tenant.pk), rates.network_of(ip))
    actor = Actor(label="pairing code", ip=ip, request_id=request_id)
    token, value = pairing.exchange(tenant=tenant, code=body["code"], name=body.get("name", ""), actor=actor)
    return {"access_token": value.reveal(), "id": str(token.public_id), "name": token.name}
