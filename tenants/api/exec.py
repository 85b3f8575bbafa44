"""Commands beside a tenant's agent."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router
from pydantic import Field, StringConstraints

from accounts import stepup
from accounts.auth import actor_of
from tenants import operations
from tenants.access import can
from tenants.api.common import find
from tenants.api.schemas import Number
from zcplatform.lib.apidocs import about
from zcplatform.lib.schemas import In, Out

router = Router(tags=["operation"])
LONGEST_S = 120
Word = Annotated[str, StringConstraints(max_length=operations.MAX_ARGUMENT)]


class ExecIn(In):
    """What to run."""

    command: Word | list[Word] = Field(
        description="A list of words, or a text that is split into words as a shell would; no shell runs."
    )
    timeout_s: Number = Field(60.0, gt=0, le=LONGEST_S)


class ExecOut(Out):
    """How it ended."""

    exit_code: int | None = Field(None, description="Null when it was killed at the limit.")
    output: str = Field(description="stdout and stderr as they came, without the tenant's secrets; 1 MB at most.")
    truncated: bool
    timed_out: bool


@router.post(
    "/{tenant_id}/exec",
    response=ExecOut,
    summary="Run a command beside the agent",
    openapi_extra=about(
        404,
        503,
        504,
        body={"command": ["uptime"], "timeout_s": 10},
        types={403: "forbidden, step_up_required", 409: "not_running", 422: "invalid_field, secret_in_command"},
    ),
)
def execute(request: HttpRequest, tenant_id: UUID, payload: ExecIn) -> Any:
    """As the agent's user and without a shell. Managers may run the agent kind's diagnostic commands, owners any. At
    the limit the command is killed with all that it started. A command that holds one of the tenant's secrets is
    refused: the audit keeps commands. Takes no `Idempotency-Key`."""
    actor = actor_of(request)
    tenant = find(request, tenant_id, "exec.diagnostic")
    if can(actor, "exec.any", tenant):
        stepup.require(request, "command.any")
    return operations.execute(actor=actor, tenant=tenant, command=payload.command, timeout_s=payload.timeout_s)
