"""What an agent printed before it went: kept for whoever looks into the failure, without its secrets."""

from __future__ import annotations

from tenants import secrets
from tenants.models import Tenant
from tenants.runtimes import runtime_for
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.ansi import plain
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import VaultError
from zcplatform.lib.redact import MASK, scrub

NAME = "last-failure.log"
LINE_CAP = 600


def clean(tenant: Tenant, text: str) -> str:
    """``text`` without the tenant's secrets, on one line, its last 600 characters. Only what can be printed: a
    database may refuse a NUL, and then nothing could be written of an agent that prints one."""
    line = " / ".join(plain(_scrubbed(tenant, text)).split("\n"))[-LINE_CAP:].strip(" /")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def save(tenant: Tenant, text: str) -> None:
    """Keep ``text`` in the tenant's log folder. Nothing to keep, or no folder to keep it in, is fine; where it can't
    be written, that is logged: the agent has to go all the same."""
    if not text.strip():
        return

    def write() -> None:
        runtime_for(tenant.node).folders.write_log(tenant.folder, NAME, _scrubbed(tenant, text))

    contained(write, None, what="last words are lost", tenant=tenant.slug)


def read(tenant: Tenant) -> str:
    """What was kept of the last failure; empty when nothing was, or it can't be read."""
    kept = contained(
        lambda: runtime_for(tenant.node).folders.read_log(tenant.folder, NAME),
        "",
        what="last words can't be read",
        tenant=tenant.slug,
    )
    return _scrubbed(tenant, kept) if kept.strip() else ""


def _scrubbed(tenant: Tenant, text: str) -> str:
    try:
        opened = secrets.reveal_all(tenant, actor=SYSTEM, why="remove secrets from log lines", left_behind=True)
    except VaultError:
        return MASK
    return scrub(text, opened.values())
