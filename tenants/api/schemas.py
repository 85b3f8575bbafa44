"""What several of the tenants' routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, Strict

from tenants.models import Run, Tenant
from tenants.provisioning.plans import step_names
from tenants.routing import router
from tenants.states import Desired, Health, HoldKind, Reason, RunKind, RunStatus, Status, StepStatus
from zcplatform.lib.redact import scrub
from zcplatform.lib.schemas import Out

Whole = Annotated[int, Strict()]
"""A whole number that was sent as one: no text, no 5.0, no true."""
Yes = Annotated[bool, Strict()]
"""true or false, and nothing that could be taken for them."""
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class StepOut(Out):
    """One step of a run. `pending` has not begun."""

    name: str = Field(examples=["await_health"])
    status: str = Field(examples=["done"], description=f"pending, {', '.join(StepStatus.values)}")
    attempts: int
    error: str
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RunSummary(Out):
    """One execution of a list of steps."""

    id: UUID = Field(alias="public_id")
    tenant: UUID
    kind: RunKind
    status: RunStatus
    reason: Reason = Field(description="Why it waits or failed; empty otherwise.")
    error: str
    actor: str = Field(description="Who asked for it.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @staticmethod
    def resolve_tenant(run: Run) -> UUID:
        return run.tenant.public_id

    @staticmethod
    def resolve_error(run: Run) -> str:
        return scrub(run.error)


class RunOut(RunSummary):
    """A run with its steps in order, those still to come included."""

    steps: list[StepOut]

    @staticmethod
    def resolve_steps(run: Run) -> list[dict[str, Any]]:
        return steps_of(run)


class ChangeOut(Out):
    """What a change led to."""

    run: RunOut | None = Field(None, description="The run that applies it; null when the agent is meant to be down.")


class TenantOut(Out):
    """A tenant: what it should be (`desired`) and what was last seen (`status`, `health`)."""

    id: UUID = Field(alias="public_id")
    slug: str = Field(examples=["acme"])
    name: str = Field(examples=["Acme"])
    plan: str = Field(examples=["free"])
    agent: str = Field(alias="agent_kind", examples=["demo"])
    runtime: str = Field(examples=["docker"])
    desired: Desired
    status: Status
    reason: Reason = Field(description="Why the status is what it is; empty when there is nothing to say.")
    detail: str
    health: Health
    health_at: datetime | None = None
    holds: list[HoldKind] = Field(description="What keeps it from running.")
    url: str = Field(description="Its address; empty as long as nothing answers there.")
    role: str | None = Field(None, description="Your role in it; null for a super-admin who is no member.")
    running_since: datetime | None = None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @staticmethod
    def resolve_plan(tenant: Tenant) -> str:
        return tenant.plan.slug

    @staticmethod
    def resolve_runtime(tenant: Tenant) -> str:
        return tenant.node.runtime

    @staticmethod
    def resolve_detail(tenant: Tenant) -> str:
        return scrub(tenant.detail)

    @staticmethod
    def resolve_holds(tenant: Tenant) -> list[str]:
        return [hold.kind for hold in tenant.active_holds]  # type: ignore[attr-defined]

    @staticmethod
    def resolve_url(tenant: Tenant) -> str:
        return router().url(tenant.slug) if tenant.routed else ""

    @staticmethod
    def resolve_role(tenant: Tenant) -> str | None:
        return tenant.my_role  # type: ignore[attr-defined]


def steps_of(run: Run) -> list[dict[str, Any]]:
    """The steps of a run as they are shown."""
    done = {step.name: step for step in run.steps.all()}
    shown = []
    for name in step_names(run):
        step = done.get(name)
        times = {"started_at": step.started_at, "finished_at": step.finished_at} if step else {}
        told = {"status": step.status, "attempts": step.attempts, "error": scrub(step.error)} if step else _PENDING
        shown.append({"name": name, **told, **times})
    return shown


_PENDING = {"status": "pending", "attempts": 0, "error": ""}
RUN = {
    "id": "0b0f4f8e-6f0e-4a3f-9a39-0c5c1f6d2f11",
    "tenant": "5d1c1f0a-2a37-4b19-9d8f-63a1d4f8f0b2",
    "kind": "provision",
    "status": "queued",
    "reason": "",
    "error": "",
    "actor": "dana@example.com",
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": None,
    "finished_at": None,
    "steps": [{"name": "reserve_slot", **_PENDING, "started_at": None, "finished_at": None}],
}
"""An example."""
