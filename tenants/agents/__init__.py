"""The agent kinds. ``agent_kind(name)`` gives one; a new one is a module and two lines in settings."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from tenants.agents.base import AgentKind, Counters
from zcplatform.lib.contained import contained
from zcplatform.lib.errors import InvalidField


def agent_kind(name: str) -> AgentKind:
    """The kind ``name`` of ``settings.AGENTS``; InvalidField ``unknown_agent`` when there is none."""
    try:
        path = settings.AGENTS[name]
    except KeyError:
        raise InvalidField("There is no such agent kind.", type="unknown_agent", field="agent_kind") from None
    return _load(path)


def is_healthy(name: str, status: int, body: bytes) -> bool:
    """Whether this is what a healthy agent of the kind answers. False too for what can't even be read."""
    return contained(lambda: agent_kind(name).healthy(status, body), False, what="unreadable health", kind=name)


def counts_of(name: str, text: str) -> Counters:
    """What an agent of the kind tells of its counts; no data where it can't be read."""
    return contained(lambda: agent_kind(name).counters(text), Counters(), what="unreadable counts", kind=name)


def kinds() -> dict[str, AgentKind]:
    """Every kind by name, in the order of the settings."""
    return {name: agent_kind(name) for name in settings.AGENTS}


@cache
def _load(path: str) -> AgentKind:
    return import_string(path)()
