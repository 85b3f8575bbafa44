"""Changing what a tenant's agent may connect to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenants.access import deny, require
from tenants.egress import firewall, policy
from tenants.egress.firewall import SHARED_NETWORK
from tenants.egress.hosts import check_hosts
from tenants.models import Run, Tenant
from tenants.runs import change
from tenants.states import RunKind
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden


def set_egress(
    *, actor: Actor, tenant: Tenant, mode: str | None = None, hosts: Iterable[str] | None = None
) -> Run | None:
    """Change the mode, the list of hosts, or both, and apply it; None when the tenant is down. What is not given
    stays; an empty ``mode`` means the plan's default again.

    InvalidField for what is no mode or no host; Forbidden ``egress_limit`` when somebody but a super-admin asks for a
    wider mode than the plan's default; Misconfigured ``egress_unenforced`` for a process, whose network can't be
    narrowed; Conflict ``run_active``. Hosts count from the next connection on.
    """
    require(actor, "egress.update", tenant)
    policy.check(mode)
    listed = None if hosts is None else check_hosts(hosts)
    default = policy.default_of(tenant.plan.slug)
    if mode and policy.is_looser(mode, default) and not actor.unrestricted:
        error = Forbidden(f"This plan allows “{default}” and narrower.", type="egress_limit", limit=str(default))
        deny(error, actor=actor, ability="egress.update", tenant=tenant)
    if mode and tenant.node.runtime == "process":
        firewall.refuse_unless_open(mode, SHARED_NETWORK)
    given = {name: value for name, value in (("egress", mode), ("egress_hosts", listed)) if value is not None}

    def prepare(row: Tenant) -> None:
        for name, value in given.items():
            setattr(row.config, name, value)
        row.config.updated_at = clock.now()
        row.config.save(update_fields=[*given, "updated_at"])

    detail: dict[str, Any] = {name: value for name, value in (("mode", mode), ("hosts", listed)) if value is not None}
    return change(tenant, RunKind.RECONFIGURE, "egress.update", actor=actor, prepare=prepare, **detail)
