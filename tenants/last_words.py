"""What an agent printed before it went: kept for whoever looks into the failure, without its secrets."""

from __future__ import annotations

from tenants import secrets
from tenants.models import Tenant
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import VaultError
from zcplatform.lib.redact import MASK, scrub

NAME = "last-failure.log"
LINE_CAP = 600


def clean(tenant: Tenant, text: str) -> str:
    """``text`` without the tenant's secrets, on one line, its last 600 characters."""
    return " / ".join(_scrubbed(tenant, text).split("\n"))[-LINE_CAP:].strip(" /")


def save(tenant: Tenant, text: str) -> None:
    """Keep ``text`` in the tenant's log folder; nothing to keep, or no folder to keep it in, is fine."""
    folder = tenant.folder / "logs"
    if text.strip() and folder.is_dir():
        (folder / NAME).write_text(_scrubbed(tenant, text), encoding="utf-8")


def _scrubbed(tenant: Tenant, text: str) -> str:
    try:
        # Opening them makes this process know their values, which is what scrub() looks for.
        secrets.reveal_all(tenant, actor=SYSTEM, why="remove secrets from log lines")
    except VaultError:
        return MASK
    return scrub(text)
