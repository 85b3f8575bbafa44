"""Back to an earlier configuration. The value of a secret is not part of a revision: one that is in use and was entered
for the same place stays, and else the one that the revision names comes back when it was."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from tenants import origins, revisions, secrets
from tenants.access import require
from tenants.configuration import ConfigInput, check, missing_secrets, store
from tenants.egress import services as egress
from tenants.models import AgentConfig, Channel, Run, Tenant
from tenants.providers import PROVIDERS
from tenants.runs import change
from tenants.states import RunKind
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden
from zcplatform.lib.redact import SecretStr


@dataclass(frozen=True)
class RolledBack:
    """``run`` is None when the tenant is down. ``incomplete`` are the ids of channels that lack a secret, which was
    deleted or entered for another place: they are off until it is entered again."""

    run: Run | None
    incomplete: tuple[str, ...]


@dataclass(frozen=True)
class Foreseen:
    """What a rollback would do to the secrets.

    ``key``: the provider's ``stays``, ``returns`` with the revision, is ``missing`` (none that was entered for its
    address is left) or would be ``hidden`` or ``unused``; empty when there is none. ``removed`` are the kinds of
    channels that go with their secrets, ``incomplete`` those that are off until a secret is entered.
    """

    key: str
    removed: tuple[str, ...]
    incomplete: tuple[str, ...]


def rollback(*, actor: Actor, tenant: Tenant, number: int, provider_key: SecretStr | None = None) -> RolledBack:
    """Make revision ``number`` the configuration again and apply it; it becomes a revision of its own.

    NotFound for a revision that is not kept; InvalidField when it needs a provider key that is gone and none is
    given; Forbidden ``plan_limit``, and for who may not change what the agent may connect to where that differs;
    Conflict ``run_active``.
    """
    require(actor, "config.update", tenant)
    wanted = revisions.find(tenant, number).snapshot
    given = ConfigInput(
        provider=wanted["provider"],
        model=wanted["model"],
        base_url=wanted["base_url"],
        extra=wanted["extra"],
        provider_key=provider_key,
    )
    checked = check(tenant.agent_kind, given, tenant, key_id=wanted["secrets"].get("provider_key", ""))
    # None in a revision of before these were kept: they stay as they are.
    reach = egress.allowed(
        actor=actor,
        tenant=tenant,
        mode=wanted.get("egress"),
        hosts=wanted.get("egress_hosts"),
        model=checked.columns,
    )
    checked = replace(checked, columns={**checked.columns, **reach})
    incomplete: list[str] = []

    def prepare(row: Tenant) -> None:
        egress.recheck(row, checked.columns, actor=actor)
        with revisions.kept(row, "config.rollback", actor=actor):
            store(row, checked, actor=actor)
            if provider_key is None:
                secrets.revive(row, wanted["secrets"])
            incomplete.extend(_restore_channels(row, wanted["channels"], actor))
        egress.tell(row, reach, actor=actor)

    run = change(
        tenant,
        RunKind.RECONFIGURE,
        "config.rollback",
        actor=actor,
        ability="config.update",
        prepare=prepare,
        revision=number,
    )
    return RolledBack(run, tuple(incomplete))


def foresee(tenant: Tenant, number: int) -> Foreseen:
    """What a rollback would do to the secrets. NotFound for a revision that is not kept."""
    wanted = revisions.find(tenant, number).snapshot
    there = {str(channel.public_id): channel for channel in tenant.channels.all()}
    gone = there.keys() - {state["id"] for state in wanted["channels"]}
    back = [(_as_it_was(tenant, copy(there.get(state["id"])), state), state) for state in wanted["channels"]]
    return Foreseen(
        key=_fate_of_key(tenant, wanted),
        removed=tuple(sorted(there[public_id].channel_type for public_id in gone)),
        incomplete=tuple(c.channel_type for c, state in back if missing_secrets(c, state["secrets"])),
    )


def _fate_of_key(tenant: Tenant, wanted: dict[str, Any]) -> str:
    then = AgentConfig(provider_name=wanted["provider"], base_url=wanted["base_url"])
    if not origins.of_model(then):
        return "unused" if tenant.secrets.filter(channel=None, field="provider_key").exists() else ""
    if secrets.has_key(tenant, then):
        return "stays"
    if "provider_key" in secrets.available(tenant, origins.of_model(then), wanted["secrets"]):
        return "returns"
    return "missing" if PROVIDERS[then.provider_name].needs_key else "hidden"


def _as_it_was(tenant: Tenant, channel: Channel | None, state: dict[str, Any]) -> Channel:
    channel = channel or Channel(public_id=UUID(state["id"]), tenant=tenant, channel_type=state["kind"])
    channel.config = state["config"]
    return channel


def _restore_channels(tenant: Tenant, wanted: list[dict[str, Any]], actor: Actor) -> list[str]:
    limit = tenant.plan.max_channels
    if len(wanted) > limit:
        raise Forbidden(f"The plan {tenant.plan.name} allows {limit} channels.", type="plan_limit", limit=limit)
    there = {str(channel.public_id): channel for channel in tenant.channels.all()}
    for public_id in there.keys() - {state["id"] for state in wanted}:
        secrets.remove(tenant, actor=actor, channel=there[public_id])
        there[public_id].delete()
    incomplete = []
    for state in wanted:
        channel = there.get(state["id"]) or Channel(
            public_id=UUID(state["id"]), tenant=tenant, channel_type=state["kind"]
        )
        channel.config, channel.updated_at = state["config"], clock.now()
        channel.enabled = False
        channel.save()
        secrets.revive(tenant, state["secrets"], channel=channel)
        complete = not missing_secrets(channel)
        channel.enabled = state["enabled"] and complete
        channel.save(update_fields=["enabled"])
        if not complete:
            incomplete.append(state["id"])
    return incomplete
