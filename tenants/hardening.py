"""Whether what runs for a tenant is as confined as its rows ask for."""

from __future__ import annotations

from collections.abc import Sequence

from tenants.models import StepRecord, Tenant
from tenants.provisioning.spec import build_spec
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentSpec
from tenants.states import StepStatus


def deviations(tenant: Tenant) -> Sequence[str]:
    """How the tenant's agent differs from its spec, a line each; empty when it does not, or when there is none.

    DependencyDown when the engine does not answer. A plan that was edited differs until the next start.
    """
    if tenant.agent_handle is None or tenant.slot is None:
        return []
    if not _image(tenant):
        return ["no run tells from which image it was made"]
    return runtime_for(tenant.node).deviations(spec_of(tenant), tenant.agent_handle)


def spec_of(tenant: Tenant) -> AgentSpec:
    """What the rows ask for now, with the image of the latest run; no run's and no epoch's."""
    return build_spec(tenant, run="", epoch=0, image=_image(tenant), config_hash=tenant.config_hash)


def _image(tenant: Tenant) -> str:
    """The id that the latest run gave to the agent."""
    records = StepRecord.objects.filter(run__tenant=tenant, name="ensure_image", status=StepStatus.DONE)
    result = records.order_by("-pk").values_list("result", flat=True).first() or {}
    return str(result.get("image", ""))
