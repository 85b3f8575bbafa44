"""The history of a tenant's configuration: one row after each change, the last hundred of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tenants import secrets
from tenants.models import ConfigRevision, Tenant, TenantSecret
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import NotFound

KEEP = 100
FOUND = "config.found"
"""What a revision's action says of a configuration that was there before there was a history."""


@contextmanager
def kept(tenant: Tenant, action: str, *, actor: Actor) -> Iterator[None]:
    """Stands around a change, inside its transaction and under the tenant's lock."""
    if not tenant.revisions.exists():
        _insert(tenant, 1, FOUND, "")
    yield
    keep(tenant, action, actor=actor)


def keep(tenant: Tenant, action: str, *, actor: Actor) -> ConfigRevision:
    """Note the configuration as it is now, and forget the oldest beyond ``KEEP`` with the secrets that they alone
    named."""
    last = tenant.revisions.order_by("-number").values_list("number", flat=True).first() or 0
    tenant.revisions.filter(number__lte=last + 1 - KEEP).delete()
    made = _insert(tenant, last + 1, action, actor.label)
    secrets.forget_unnamed(tenant, actor=actor)
    return made


def find(tenant: Tenant, number: int) -> ConfigRevision:
    """The tenant's revision with this number. NotFound, also for one that is no longer kept."""
    found = tenant.revisions.filter(number=number).first()
    if found is None:
        raise NotFound("There is no such revision.")
    return found


def snapshot(tenant: Tenant) -> dict[str, Any]:
    """Everything that the agent is told, read afresh; secrets as the public ids that they have in the vault."""
    config = type(tenant.config).objects.get(tenant=tenant)
    ties: dict[int | None, dict[str, str]] = {}
    for tie in TenantSecret.objects.filter(tenant=tenant).exclude(field="agent_token").select_related("secret"):
        ties.setdefault(tie.channel_id, {})[tie.field] = str(tie.secret.public_id)
    return {
        "provider": config.provider_name,
        "model": config.provider_model,
        "base_url": config.base_url,
        "extra": config.extra_config,
        "egress": config.egress,
        "egress_hosts": config.egress_hosts,
        "secrets": ties.get(None, {}),
        "channels": [
            {
                "id": str(channel.public_id),
                "kind": channel.channel_type,
                "enabled": channel.enabled,
                "config": channel.config,
                "secrets": ties.get(channel.pk, {}),
            }
            for channel in tenant.channels.order_by("pk")
        ],
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs between two snapshots: ``model``, ``channels/{id}``, ... sorted."""
    plain = [name for name in ("provider", "model", "base_url", "extra") if before.get(name) != after.get(name)]
    # Empty where nobody chose, and absent from revisions that are older than they.
    plain += [name for name in ("egress", "egress_hosts") if (before.get(name) or []) != (after.get(name) or [])]
    if before.get("secrets") != after.get("secrets"):
        plain.append("provider_key")
    old, new = ({channel["id"]: channel for channel in state.get("channels", ())} for state in (before, after))
    return sorted([*plain, *(f"channels/{name}" for name in old.keys() | new.keys() if old.get(name) != new.get(name))])


def _insert(tenant: Tenant, number: int, action: str, actor: str) -> ConfigRevision:
    return ConfigRevision.objects.create(
        tenant=tenant, number=number, action=action, actor=actor, snapshot=snapshot(tenant)
    )
