"""Which steps each kind of run has, and how its outcome shows on the tenant."""

from __future__ import annotations

from audit.services import Target, record
from tenants.events import emit
from tenants.models import Run, Tenant
from tenants.provisioning import steps
from tenants.provisioning.procedure import Context, Procedure, Step
from tenants.states import Desired, Health, Reason, RunKind, Status
from tenants.status import save, set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor

_STEPS: dict[str, tuple[Step, ...]] = {
    RunKind.PROVISION: steps.CONVERGE,
    RunKind.START: steps.CONVERGE,
    RunKind.RESTART: steps.RESTART,
    RunKind.RECONFIGURE: steps.CONVERGE,
    RunKind.RESIZE: steps.CONVERGE,
    RunKind.REACTIVATE: steps.CONVERGE,
    RunKind.ROTATE_SECRETS: steps.ROTATE_SECRETS,
    RunKind.STOP: steps.HALT,
    RunKind.SUSPEND: steps.HALT,
    RunKind.DEPROVISION: steps.DEPROVISION,
    RunKind.UNDELETE: steps.UNDELETE,
}
_TOUCHES_AGENT = "retire_stale"


class TenantProcedure(Procedure):
    """Runs of tenants."""

    def steps(self, run: Run) -> tuple[Step, ...]:
        if run.kind == RunKind.REACTIVATE and run.params.get("to") != Desired.RUNNING:
            # Another hold is left, or the tenant was stopped before it was suspended.
            return steps.HALT
        return _STEPS[run.kind]

    def subject(self, run: Run) -> Tenant:
        return Tenant.objects.select_related("node", "plan", "config").get(pk=run.tenant_id)

    def settle(self, ctx: Context) -> None:
        """A change that failed before it touched the agent leaves it running, and that is what we then say.
        Otherwise nothing runs and no route leads there: what is called failed does not go on talking to people."""
        if ctx.run.kind == RunKind.DEPROVISION:
            return
        reached = set(ctx.run.steps.values_list("name", flat=True))
        touched = ctx.run.kind == RunKind.RESTART or _TOUCHES_AGENT in reached
        ctx.untouched = not touched and ctx.subject.routed and steps.is_up(ctx.subject)
        if ctx.untouched:
            return
        if ctx.subject.routed:
            steps.withdraw_route(ctx)
        if ctx.subject.agent_handle is not None:
            steps.stop(ctx)

    def on_start(self, ctx: Context, *, interrupted: bool) -> None:
        emit(ctx.subject, "run.resumed" if interrupted else "run.started", _about(ctx.run))
        _record(ctx, "run.interrupt" if interrupted else "run.start")

    def on_wait(self, ctx: Context, reason: Reason, detail: str) -> None:
        tenant = ctx.subject
        if (tenant.reason, tenant.detail) != (reason, detail):
            save(tenant, reason=reason, detail=detail)
            emit(tenant, "run.waiting", {**_about(ctx.run), "reason": str(reason)})

    def on_success(self, ctx: Context) -> None:
        tenant = ctx.subject
        emit(tenant, "run.succeeded", _about(ctx.run))
        _record(ctx, "tenant.deleted" if ctx.run.kind == RunKind.DEPROVISION else "run.finish")

    def on_failure(self, ctx: Context) -> None:
        tenant, run = ctx.subject, ctx.run
        if run.kind == RunKind.DEPROVISION:
            if tenant.status != Status.DELETED:  # else it failed after its last write, which can't be taken back
                set_status(tenant, Status.DELETING, run.reason, run.error)
        elif ctx.untouched:
            set_status(tenant, Status.RUNNING, run.reason, f"The change was not applied: {run.error}")
        else:
            set_status(tenant, Status.ERROR, run.reason, run.error)
            save(tenant, health=Health.UNKNOWN, health_at=clock.now(), running_since=None)
        emit(tenant, "run.failed", {**_about(run), "reason": run.reason})
        _record(ctx, "run.finish", outcome="failed", reason=run.reason, error=run.error)


PROCEDURE = TenantProcedure()


def step_names(run: Run) -> list[str]:
    """The names of the run's steps in order, those still to come included."""
    return [step.name for step in PROCEDURE.steps(run)]


def _about(run: Run) -> dict[str, str]:
    return {"run": str(run.public_id), "kind": run.kind}


def _record(ctx: Context, action: str, *, outcome: str = "ok", **detail: str) -> None:
    tenant, run = ctx.subject, ctx.run
    record(
        action,
        actor=Actor(label=run.actor, request_id=run.request_id),
        target=Target("tenant", str(tenant.public_id), tenant.slug),
        tenant=str(tenant.public_id),
        detail={**_about(run), **detail},
        outcome=outcome,
    )
