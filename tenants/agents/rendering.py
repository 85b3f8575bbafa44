"""What the renderers share."""

from __future__ import annotations

import json
import re
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
    """For a program that reads JSON. The same bytes for the same value; any text survives, since what is not ASCII is
    escaped. YAML is no such reader: see ``yaml_file``."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def yaml_file(value: Mapping[str, Any]) -> bytes:
    """For a program that reads YAML: JSON but for what YAML reads otherwise. Characters beyond the first 65,536 have
    escapes of eight digits (of JSON's two of four it makes two halves of a character), DEL has one, and a number with
    an exponent has a point (or it is a text). Keys are short: YAML gives them 1,024 characters."""
    return _DIFFERENT.sub(_as_yaml, json_file(value).decode("ascii")).encode("ascii")


# Every string and every number with an exponent, so that nothing inside a string is taken for a number.
_DIFFERENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?[eE]')
_ESCAPE = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)|\\.|\x7f")


def _as_yaml(found: re.Match[str]) -> str:
    text = found[0]
    if text.startswith('"'):
        return _ESCAPE.sub(_escape, text)
    return text if "." in text else f"{text[:-1]}.0e"


def _escape(found: re.Match[str]) -> str:
    if found[1]:
        pair = bytes.fromhex(found[1] + found[2]).decode("utf-16-be")
        return f"\\U{ord(pair):08x}"
    return "\\x7f" if found[0] == "\x7f" else found[0]
