"""What an agent printed before it went: kept for whoever looks into the failure, without its secrets."""

from __future__ import annotations

import logging

from tenants import secrets
from tenants.models import Tenant
from tenants.runtimes import runtime_for
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import FaultError, VaultError
from zcplatform.lib.redact import MASK, scrub

log = logging.getLogger(__name__)

NAME = "last-failure.log"
LINE_CAP = 600


def clean(tenant: Tenant, text: str) -> str:
    """``text`` without the tenant's secrets, on one line, its last 600 characters."""
    return " / ".join(_scrubbed(tenant, text).split("\n"))[-LINE_CAP:].strip(" /")


def save(tenant: Tenant, text: str) -> None:
    """Keep ``text`` in the tenant's log folder. Nothing to keep, or no folder to keep it in, is fine; where it can't
    be written, that is logged: the agent has to go all the same."""
    if not text.strip():
        return
    try:
        runtime_for(tenant.node).folders.write_log(tenant.folder, NAME, _scrubbed(tenant, text))
    except FaultError as error:
        log.warning("last words are lost", extra={"tenant": tenant.slug, "type": error.type, "error": error.message})


def _scrubbed(tenant: Tenant, text: str) -> str:
    try:
        opened = secrets.reveal_all(tenant, actor=SYSTEM, why="remove secrets from log lines")
    except VaultError:
        return MASK
    return scrub(text, opened.values())
