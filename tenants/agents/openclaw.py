"""OpenClaw 2026.9: a Node.js agent. Needs 1.5 GB and up to 90 s to start.

Its gateway token is full operator power over the agent, so no path of it is public. It serves no metrics: messages
and tokens are counted where it calls its model. Telegram was run; Discord and Slack follow its documentation.
``${NAME}`` in its configuration is filled from the environment, which ``literal`` keeps from happening to our text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenants.agents import extra as extra_config
from tenants.agents.base import AgentSettings, ChannelSettings, Counters, ModelEndpoint
from tenants.agents.literal import ENVIRONMENT, literal
from tenants.agents.openai import OpenAIChat
from tenants.agents.rendering import channel_values, json_file, required_model
from tenants.fields import Field
from tenants.runtimes.base import Placement

PROGRAM_IN_IMAGE = "/opt/openclaw/openclaw.mjs"
PROVIDER = "claw"
EXTRA = (
    Field("context_window", "Context window", "integer", low=1_000, high=10_000_000, help="Tokens; 128000 if absent."),
    Field("max_tokens", "Longest answer", "integer", low=1, high=1_000_000, help="Tokens; 4096 if absent."),
)
# OpenClaw's name of each secret.
_SECRETS = {
    "telegram": {"bot_token": "botToken"},
    "discord": {"bot_token": "token"},
    "slack": {"bot_token": "botToken", "app_token": "appToken"},
}


class OpenClawAgent(OpenAIChat):
    name = "openclaw"
    label = "OpenClaw"
    min_memory_mb = 1536
    start_grace_s = 90
    config_dir = "/config"
    data_dir = "/data"
    listen_port = 8080
    public_paths: tuple[str, ...] = ()
    diagnostic_commands = (("node", PROGRAM_IN_IMAGE, "--version"), ("node", PROGRAM_IN_IMAGE, "status"))
    channels = frozenset(_SECRETS)
    needs_model = True
    health_path = "/healthz"  # /readyz turns 503 when a channel's account is broken, which no restart mends
    metrics_path: str | None = None
    chat_model = "openclaw"

    def check_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return extra_config.check(extra, EXTRA)

    def config_files(self, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
        model = required_model(settings)
        config = {
            "gateway": _gateway(settings, place),
            "models": {
                "mode": "replace",
                "catalogRefresh": {"enabled": False},
                "providers": {PROVIDER: _provider(model, settings.extra)},
            },
            "agents": {
                "defaults": {
                    "workspace": str(place.data_dir / "workspace"),
                    "model": {"primary": f"{PROVIDER}/{model.model}"},
                    "heartbeat": {"every": "0m"},
                }
            },
            "update": {"checkOnStart": False},
            "channels": _channels(settings.channels),
        }
        return {"openclaw.json": json_file(literal(config))}

    def argv(self, place: Placement) -> tuple[str, ...]:
        program = ("node", PROGRAM_IN_IMAGE) if place.in_container else ("openclaw",)
        return (*program, "gateway", "run")

    def env(self, place: Placement) -> dict[str, str]:
        return {
            **ENVIRONMENT,
            "HOME": str(place.data_dir),
            "OPENCLAW_STATE_DIR": str(place.data_dir),
            "OPENCLAW_CONFIG_PATH": str(place.config_dir / "openclaw.json"),
            "OPENCLAW_CONFIG_READONLY": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
            "OPENCLAW_NO_AUTO_UPDATE": "1",
            "OPENCLAW_OFFLINE": "1",
        }

    def healthy(self, status: int, body: bytes) -> bool:
        return status == 200

    def counters(self, text: str) -> Counters:
        return Counters()


def _gateway(settings: AgentSettings, place: Placement) -> dict[str, Any]:
    return {
        "mode": "local",
        "port": place.listen_port,
        "bind": "lan" if place.in_container else "loopback",
        "auth": {"mode": "token", "token": settings.agent_token.reveal()},
        "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        "controlUi": {"enabled": False},
    }


def _provider(model: ModelEndpoint, extra: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "id": model.model,
        "name": model.model,
        "reasoning": False,
        "input": ["text"],
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "contextWindow": extra.get("context_window", 128_000),
        "maxTokens": extra.get("max_tokens", 4_096),
    }
    return {
        "baseUrl": model.base_url,
        "apiKey": model.api_key.reveal(),
        "api": "openai-completions",
        "models": [entry],
    }


def _channels(channels: tuple[ChannelSettings, ...]) -> dict[str, Any]:
    """One channel of a kind stands at the top of its kind; OpenClaw takes more of them as accounts."""
    by_kind: dict[str, list[ChannelSettings]] = {}
    for channel in channels:
        by_kind.setdefault(channel.kind, []).append(channel)
    return {
        kind: _channel(group[0])
        if len(group) == 1
        else {"enabled": True, "accounts": {channel.id: _channel(channel) for channel in group}}
        for kind, group in by_kind.items()
    }


def _channel(channel: ChannelSettings) -> dict[str, Any]:
    """Direct messages of the listed people only; OpenClaw refuses a list policy without a list."""
    values = channel_values(channel)
    people = list(channel.config.get("allow_from") or [])
    policy = "open" if "*" in people else "allowlist" if people else "disabled"
    return {
        "enabled": True,
        **{theirs: values[ours] for ours, theirs in _SECRETS[channel.kind].items() if ours in values},
        "dmPolicy": policy,
        "allowFrom": people,
        "groupPolicy": "disabled",
    }
