"""ZeroClaw 0.8: a Rust agent with a TOML configuration of schema version 3.

Written from its source, not run here. Its pairing is closed from the start, because the platform's token is seeded
as already paired: otherwise ``/pair/code`` would hand a code to whoever asks first. The configuration is mounted
read-only, so nothing may make ZeroClaw rewrite it (pairing, encryption of secrets, updates).

Slack is not in the stock image, and its webhook channel opens a port of its own that no route leads to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import tomli_w

from tenants.agents import extra as extra_config
from tenants.agents import metrics, openai
from tenants.agents.base import AgentSettings, ChannelSettings, ChatCall, Counters
from tenants.agents.rendering import channel_values, required_model
from tenants.channels import CHANNELS
from tenants.fields import Field
from tenants.runtimes.base import Placement
from zcplatform.lib.errors import BadUpstream
from zcplatform.lib.redact import SecretStr

ALIAS = "main"
ANSWER_LIMIT = 10 * 1024 * 1024
EXTRA = (
    Field("autonomy", "Autonomy", choices=("readonly", "supervised", "full"), help="supervised unless given."),
    Field("temperature", "Temperature", "number", low=0, high=2),
    Field("max_tokens", "Longest answer", "integer", low=1, high=1_000_000, help="Tokens."),
)
# Our name of a field -> ZeroClaw's, where they differ.
_RENAMED = {("matrix", "room_ids"): "allowed_rooms"}


class ZeroClawAgent:
    name = "zeroclaw"
    label = "ZeroClaw"
    min_memory_mb = 64
    start_grace_s = 30
    config_dir = "/zeroclaw-data/.zeroclaw"
    data_dir = "/zeroclaw-data/data"
    listen_port = 8080
    public_paths = ("/whatsapp",)
    diagnostic_commands = (("zeroclaw", "status"), ("zeroclaw", "--version"))
    channels = frozenset(CHANNELS) - {"slack", "webhook"}
    needs_model = True
    health_path = "/health"
    metrics_path: str | None = "/metrics"

    def check_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return extra_config.check(extra, EXTRA)

    def config_files(self, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
        model = required_model(settings)
        provider = {"uri": model.base_url, "api_key": model.api_key.reveal(), "model": model.model}
        provider |= {key: settings.extra[key] for key in ("temperature", "max_tokens") if key in settings.extra}
        config = {
            "schema_version": 3,
            "providers": {"models": {"custom": {ALIAS: provider}}},
            "agents": {ALIAS: _agent(settings, place)},
            "risk_profiles": {ALIAS: {"level": settings.extra.get("autonomy", "supervised"), "workspace_only": True}},
            "runtime_profiles": {ALIAS: {}},
            "gateway": _gateway(settings, place),
            "channels": _channels(settings.channels),
            "peer_groups": dict(_peer_groups(settings.channels)),
            "memory": {"backend": "sqlite"},
            "observability": {"backend": "prometheus"},
            "secrets": {"encrypt": False},
        }
        return {"config.toml": tomli_w.dumps(config).encode()}

    def argv(self, place: Placement) -> tuple[str, ...]:
        return ("zeroclaw", "daemon", "-p", str(place.listen_port), "--host", place.listen_host)

    def env(self, place: Placement) -> dict[str, str]:
        return {
            "HOME": str(place.config_dir.parent),
            "ZEROCLAW_CONFIG_DIR": str(place.config_dir),
            "ZEROCLAW_DATA_DIR": str(place.data_dir),
        }

    def healthy(self, status: int, body: bytes) -> bool:
        """``status`` in the body is always "ok": the components tell. A channel that can't log in is the tenant's
        to mend, and a restart would not help, so channels don't count."""
        try:
            components = json.loads(body)["runtime"]["components"]
            states = [c["status"] for name, c in components.items() if not name.startswith("channel")]
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return status == 200 and all(state == "ok" for state in states)

    def counters(self, text: str) -> Counters:
        return metrics.counters(text)

    def chat_call(self, body: Mapping[str, Any], token: SecretStr) -> ChatCall:
        """ZeroClaw remembers the conversation itself, so only what the user said last is sent."""
        message = {"message": openai.last_user_text(body)}
        return ChatCall(f"/webhook?agent={ALIAS}", openai.bearer(token), message)

    def chat_reply(self, body: Mapping[str, Any], answer: bytes) -> dict[str, Any]:
        return openai.completion(*_model_and_text(answer))

    async def chat_stream(self, body: Mapping[str, Any], chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """ZeroClaw answers whole, so the stream has one chunk. BadUpstream before it when the answer is no answer."""
        answer = bytearray()
        async for chunk in chunks:
            answer += chunk
            if len(answer) > ANSWER_LIMIT:
                raise BadUpstream("The agent's answer is too large.")
        yield openai.completion_event(*_model_and_text(bytes(answer)))
        yield openai.DONE


def _agent(settings: AgentSettings, place: Placement) -> dict[str, Any]:
    return {
        "enabled": True,
        "model_provider": f"custom.{ALIAS}",
        "risk_profile": ALIAS,
        "runtime_profile": ALIAS,
        "channels": [f"{channel.kind}.{_alias(channel)}" for channel in settings.channels],
        "workspace": {"path": str(place.data_dir / "workspace")},
    }


def _gateway(settings: AgentSettings, place: Placement) -> dict[str, Any]:
    return {
        "host": place.listen_host,
        "port": place.listen_port,
        "allow_public_bind": True,
        "require_pairing": True,
        "paired_tokens": [hashlib.sha256(settings.agent_token.reveal().encode()).hexdigest()],
        "check_updates": False,
    }


def _alias(channel: ChannelSettings) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,63}", channel.id):
        raise ValueError(f"{channel.id!r} is no alias of ZeroClaw.")
    return channel.id


def _channels(channels: tuple[ChannelSettings, ...]) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for channel in channels:
        tables.setdefault(channel.kind, {})[_alias(channel)] = _channel(channel)
    return tables


def _channel(channel: ChannelSettings) -> dict[str, Any]:
    values = channel_values(channel)
    values.pop("allow_from", None)
    if channel.kind == "lark":
        values["use_feishu"] = values.pop("region", "lark") == "feishu"
        values["receive_mode"] = "websocket"
    return {"enabled": True, **{_RENAMED.get((channel.kind, name), name): value for name, value in values.items()}}


def _peer_groups(channels: tuple[ChannelSettings, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who may write, which ZeroClaw keeps apart from the channel. A group without peers lets nobody in."""
    for channel in channels:
        alias = _alias(channel)
        peers = list(channel.config.get("allow_from") or [])
        yield alias, {"channel": f"{channel.kind}.{alias}", "agents": [ALIAS], "external_peers": peers}


def _model_and_text(answer: bytes) -> tuple[str, str]:
    reply = openai.parse_object(answer)
    if not isinstance(reply.get("response"), str):
        raise BadUpstream("The agent's answer makes no sense.")
    return str(reply.get("model") or "zeroclaw"), reply["response"]
