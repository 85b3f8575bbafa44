"""Back to an earlier configuration. A secret is not part of a revision: what is in the vault now stays in use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tenants import revisions, secrets
from tenants.access import require
from tenants.configuration import ConfigInput, check, missing_secrets, store
from tenants.egress import services as egress
from tenants.models import Channel, Run, Tenant
from tenants.runs import change
from tenants.states import RunKind
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden
from zcplatform.lib.redact import SecretStr


@dataclass(frozen=True)
class RolledBack:
    """``run`` is None when the tenant is down. ``incomplete`` are the ids of channels that are back without their
    secrets, which were deleted with them: they are off until these are entered again."""

    run: Run | None
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
    checked = check(tenant.agent_kind, given, tenant)
    # None in a revision of before these were kept: they stay as they are.
    reach = egress.allowed(actor=actor, tenant=tenant, mode=wanted.get("egress"), hosts=wanted.get("egress_hosts"))
    checked = replace(checked, columns={**checked.columns, **reach})
    incomplete: list[str] = []

    def prepare(row: Tenant) -> None:
        with revisions.kept(row, "config.rollback", actor=actor):
            store(row, checked, actor=actor)
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
        channel = there.get(state["id"]) or Channel(public_id=state["id"], tenant=tenant, channel_type=state["kind"])
        channel.config, channel.updated_at = state["config"], clock.now()
        complete = not missing_secrets(channel)
        channel.enabled = state["enabled"] and complete
        channel.save()
        if not complete:
            incomplete.append(state["id"])
    return incomplete
