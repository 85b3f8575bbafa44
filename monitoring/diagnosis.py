"""Why an agent does not work: found out by looking at it, not by guessing from the probe."""

from __future__ import annotations

from tenants import last_words
from tenants.models import Tenant
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentState, Observed
from tenants.states import Reason

CRASHES = 3
NOBODY_THERE = ("refused", "broken", "flapping")  # an engine's own proxy takes the connection and breaks it off
BAD_CONFIG_EXIT = 78  # EX_CONFIG of sysexits.h
PROBES = {
    "timeout": "it did not answer in time",
    "refused": "nothing listens on its port",
    "broken": "it broke the connection",
    "too_large": "its answer is too large",
    "senseless": "its answer can't be read",
    "flapping": "it ends and is started again and again",
    "status": "its answer is not that of a healthy agent",
}


def reason_of(tenant: Tenant, seen: Observed, probe: str) -> tuple[Reason, str]:
    """The reason and a sentence with the agent's last lines, without its secrets."""
    reason, text = _judge(tenant, seen, probe)
    return reason, f"{text}{_hint(tenant)}"


def _judge(tenant: Tenant, seen: Observed, probe: str) -> tuple[Reason, str]:
    ended = seen.restarts + (seen.state != AgentState.RUNNING)
    code = "" if seen.exit_code is None else f" with exit code {seen.exit_code}"
    if seen.oom_killed and ended:
        return Reason.OOM_KILLED, f"The agent ran out of memory ({tenant.plan.memory_limit_mb} MB)."
    if ended and seen.exit_code == BAD_CONFIG_EXIT:
        return Reason.BAD_CONFIG, f"The agent does not accept its configuration: it ended{code}."
    if seen.port is not None and seen.port != tenant.port:
        return Reason.PORT_CONFLICT, f"The agent listens at port {seen.port} instead of {tenant.port}."
    if ended >= CRASHES or (ended and probe in NOBODY_THERE):
        return Reason.CRASH_LOOP, f"The agent ended {ended} times{code}."
    return Reason.UNHEALTHY, f"The agent fails its health check: {PROBES.get(probe, probe)}."


def _hint(tenant: Tenant) -> str:
    lines = runtime_for(tenant.node).logs(tenant.agent_handle, tail=5) if tenant.agent_handle else ""
    return f" Its last lines: {last_words.clean(tenant, lines)}" if lines.strip() else ""
