"""Changing what a tenant's agent may connect to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenants import revisions, runs
from tenants.access import can, deny, require
from tenants.egress import firewall, policy
from tenants.egress.firewall import SHARED_NETWORK
from tenants.egress.hosts import check_hosts
from tenants.models import Run, Tenant
from tenants.states import RunKind
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Forbidden, Misconfigured


def set_egress(
    *, actor: Actor, tenant: Tenant, mode: str | None = None, hosts: Iterable[str] | None = None
) -> Run | None:
    """Change the mode, the list of hosts, or both, and apply it; None when the tenant is down. What is not given
    stays; an empty ``mode`` means the plan's default again.

    InvalidField for what is no mode or no host; Forbidden ``egress_limit`` when somebody but a super-admin asks for a
    wider mode than the plan's default; Conflict ``egress_unenforced`` for a process, whose network can't be narrowed;
    Conflict ``run_active``. Hosts count from the next connection on.
    """
    require(actor, "egress.update", tenant)
    columns = allowed(actor=actor, tenant=tenant, mode=mode, hosts=hosts)

    def prepare(row: Tenant) -> None:
        with revisions.kept(row, "egress.update", actor=actor):
            for name, value in columns.items():
                setattr(row.config, name, value)
            row.config.updated_at = clock.now()
            row.config.save(update_fields=[*columns, "updated_at"])

    return runs.change(tenant, RunKind.RECONFIGURE, "egress.update", actor=actor, prepare=prepare, **_detail(columns))


def allowed(
    *,
    actor: Actor,
    tenant: Tenant,
    mode: str | None,
    hosts: Iterable[str] | None,
    model: Mapping[str, Any] | None = None,
) -> dict[str, str | list[str]]:
    """The columns of its configuration that this would change, when the actor may change them; whoever gives back what
    is there changes nothing. ``model`` are the columns of its model as they will be: an address that a narrow mode
    keeps the agent from is a change of what it may connect to. Errors as of ``set_egress``. Before the transaction of
    the act: a refusal is audited."""
    policy.check(mode)
    listed = None if hosts is None else check_hosts(hosts, field="egress_hosts")
    given: dict[str, Any] = {"egress": mode, "egress_hosts": listed}
    columns = {name: value for name, value in given.items() if value not in (None, getattr(tenant.config, name))}
    if columns or policy.opens(tenant, model or {}):
        require(actor, "egress.update", tenant)
    if columns.get("egress"):
        _refuse_wider(actor, tenant, columns["egress"])
        _refuse_unenforced(tenant, columns["egress"])
    return columns


def recheck(tenant: Tenant, model: Mapping[str, Any], *, actor: Actor) -> None:
    """Once more inside the act's transaction, with the locked row: Conflict ``egress_changed`` when what the agent may
    connect to was narrowed since ``allowed`` looked."""
    if policy.opens(tenant, model) and not can(actor, "egress.update", tenant):
        message = "What the agent may connect to was changed meanwhile; look at it and try again."
        raise Conflict(message, type="egress_changed")


def tell(tenant: Tenant, columns: Mapping[str, Any], *, actor: Actor) -> None:
    """The audit's row about what an agent may connect to, where it changed together with something else."""
    if columns:
        runs.audit(tenant, "egress.update", actor, **_detail(columns))


def _detail(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {word: columns[name] for name, word in (("egress", "mode"), ("egress_hosts", "hosts")) if name in columns}


def _refuse_wider(actor: Actor, tenant: Tenant, mode: str) -> None:
    default = policy.default_of(tenant.plan.slug)
    if policy.is_looser(mode, default) and not actor.unrestricted:
        error = Forbidden(f"This plan allows “{default}” and narrower.", type="egress_limit", limit=str(default))
        deny(error, actor=actor, ability="egress.update", tenant=tenant)


def _refuse_unenforced(tenant: Tenant, mode: str) -> None:
    if tenant.node.runtime != "process":
        return
    try:
        firewall.refuse_unless_open(mode, SHARED_NETWORK)
    except Misconfigured as error:  # here it is what was asked for that can't be had
        raise Conflict(error.message, type=error.type) from error
