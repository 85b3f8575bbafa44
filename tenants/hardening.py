"""Whether what runs for a tenant is as confined as its rows ask for."""

from __future__ import annotations

from collections.abc import Sequence

from tenants.models import Tenant
from tenants.provisioning.spec import build_spec
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentSpec


def deviations(tenant: Tenant) -> Sequence[str]:
    """How the tenant's agent differs from its spec, a line each; empty when it does not, or when there is none.

    DependencyDown when the engine does not answer. A plan that was edited differs until the next start.
    """
    if tenant.agent_handle is None or tenant.slot is None:
        return []
    if not tenant.image:
        return ["nothing tells from which image it was made"]
    return runtime_for(tenant.node).deviations(spec_of(tenant), tenant.agent_handle)


def spec_of(tenant: Tenant) -> AgentSpec:
    """What the rows ask for now, with the image that the agent was made from; no run's and no epoch's."""
    return build_spec(tenant, run="", epoch=0, image=tenant.image, config_hash=tenant.config_hash)
