"""From the engine's ``inspect`` to what the platform keeps of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tenants.runtimes.base import LABEL_EPOCH, LABEL_RUN, LABEL_SPEC, LABEL_TENANT, AgentState, Handle, Observed

KIND = "docker"
# ``restarting`` is between two attempts of the engine, which keeps it up; ``paused`` still holds port and memory.
_UP = ("running", "restarting", "paused")
STATES = {"created": AgentState.CREATED} | dict.fromkeys(_UP, AgentState.RUNNING)
NEVER = "0001-01-01"


def observed(raw: Mapping[str, Any]) -> Observed:
    state, labels = raw["State"], labels_of(raw)
    ours = STATES.get(state["Status"], AgentState.EXITED)
    return Observed(
        handle=handle_of(raw),
        tenant=labels.get(LABEL_TENANT, ""),
        state=ours,
        run=labels.get(LABEL_RUN, ""),
        epoch=_number(labels.get(LABEL_EPOCH, "")),
        fingerprint=labels.get(LABEL_SPEC, ""),
        port=host_port(raw),
        exit_code=None if state["Status"] in ("created", "running", "paused") else state["ExitCode"],
        oom_killed=bool(state["OOMKilled"]),
        restarts=raw.get("RestartCount", 0),
        started_at=moment(state["StartedAt"]),
    )


def _number(text: str) -> int:
    """Of a label, which anybody may have set who may speak to the engine; 0 for what is none of ours."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def labels_of(raw: Mapping[str, Any]) -> dict[str, str]:
    return raw["Config"].get("Labels") or {}


def handle_of(raw: Mapping[str, Any]) -> Handle:
    return Handle(runtime=KIND, name=raw["Name"].lstrip("/"), id=raw["Id"])


def host_port(raw: Mapping[str, Any]) -> int | None:
    """The host's port that was asked for, whether the container runs or not."""
    for bindings in (raw["HostConfig"].get("PortBindings") or {}).values():
        for binding in bindings or []:
            return int(binding["HostPort"])
    return None


def moment(text: str) -> datetime | None:
    return None if text.startswith(NEVER) else datetime.fromisoformat(text)
