"""The agent kinds. ``agent_kind(name)`` gives one; a new one is a module and two lines in settings."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from tenants.agents.base import AgentKind
from zcplatform.lib.errors import InvalidField


def agent_kind(name: str) -> AgentKind:
    """The kind ``name`` of ``settings.AGENTS``; InvalidField ``unknown_agent`` when there is none."""
    try:
        path = settings.AGENTS[name]
    except KeyError:
        raise InvalidField("There is no such agent kind.", type="unknown_agent", field="agent_kind") from None
    return _load(path)


def kinds() -> dict[str, AgentKind]:
    """Every kind by name, in the order of the settings."""
    return {name: agent_kind(name) for name in settings.AGENTS}


@cache
def _load(path: str) -> AgentKind:
    return import_string(path)()
