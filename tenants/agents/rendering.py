"""What the renderers share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tenants.agents.base import AgentSettings, ChannelSettings, ModelEndpoint
from tenants.states import Reason
from zcplatform.lib.errors import RunFailed


def required_model(settings: AgentSettings) -> ModelEndpoint:
    """The model of an agent that can't start without one; RunFailed ``bad_config`` when there is none."""
    if settings.model is None or not settings.model.base_url:
        raise RunFailed("This agent needs a provider, a model and the provider's key.", type=Reason.BAD_CONFIG)
    return settings.model


def channel_values(channel: ChannelSettings) -> dict[str, Any]:
    """Configuration and revealed secrets of a channel in one mapping, less what was cleared; only for a file with
    mode 0400."""
    values = {**channel.config, **{name: secret.reveal() for name, secret in channel.secrets.items()}}
    return {name: value for name, value in values.items() if value is not None}


def json_file(value: Mapping[str, Any]) -> bytes:
    """The same bytes for the same value; any text survives, since what is not ASCII is escaped."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")
