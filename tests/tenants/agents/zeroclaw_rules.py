"""What ZeroClaw 0.8 accepts as its configuration, as far as its documentation and source say, written as checks.

They stand for the program where its image can't be pulled. Written from the rules, not from our renderer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

ALIAS = re.compile(r"[a-z0-9_]{1,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
LEVELS = ("readonly", "supervised", "full")
CHANNELS = frozenset(
    {"telegram", "discord", "slack", "mattermost", "webhook", "whatsapp", "email", "irc", "matrix", "signal", "lark"}
    | {"dingtalk", "qq"}
)
NEEDED = {
    "telegram": {"bot_token"},
    "discord": {"bot_token"},
    "slack": {"bot_token", "app_token"},
    "webhook": {"port", "listen_path"},
}
IN_STOCK_IMAGE = CHANNELS - {"slack"}
ENVIRONMENT = re.compile(r"ZEROCLAW_[A-Z0-9_]+")
GONE = frozenset({"API_KEY", "PROVIDER", "ZEROCLAW_MODEL"})


def violations(config: dict[str, Any], *, bound_outside: bool = True) -> list[str]:
    """Every rule that ``config`` breaks, a line each. ``bound_outside``: it has to answer beyond its own loopback."""
    looks = (_schema, _aliases, _models, _agents, _gateway, _channels, _peers, _readable)
    found = [line for look in looks for line in look(config)]
    if bound_outside and config.get("gateway", {}).get("host", "127.0.0.1") == "127.0.0.1":
        found.append("gateway.host: nobody but itself could reach it")
    return found


def environment_violations(env: dict[str, str]) -> list[str]:
    """A name that an override would take for a path of the configuration aborts the start."""
    return [
        name
        for name in env
        if name in GONE or (name.upper().startswith("ZEROCLAW_") and not ENVIRONMENT.fullmatch(name))
    ]


def _schema(config: dict[str, Any]) -> Iterator[str]:
    if config.get("schema_version") != 3:
        yield "schema_version is not 3"


def _aliases(config: dict[str, Any]) -> Iterator[str]:
    tables = [config.get(name, {}) for name in ("agents", "risk_profiles", "runtime_profiles")]
    tables += list(config.get("providers", {}).get("models", {}).values()) + list(config.get("channels", {}).values())
    for table in tables:
        yield from (f"{alias!r} is no alias" for alias in table if not ALIAS.fullmatch(alias))


def _models(config: dict[str, Any]) -> Iterator[str]:
    for kind, models in config.get("providers", {}).get("models", {}).items():
        for alias, model in models.items():
            if kind == "custom" and not model.get("uri"):
                yield f"providers.models.{kind}.{alias} has no uri"
            if not model.get("model"):
                yield f"providers.models.{kind}.{alias} has no model"


def _agents(config: dict[str, Any]) -> Iterator[str]:
    """An agent that lacks one of these is read and never dispatched to."""
    models = {f"{k}.{a}" for k, table in config.get("providers", {}).get("models", {}).items() for a in table}
    channels = {f"{k}.{a}" for k, table in config.get("channels", {}).items() for a in table}
    enabled = [agent for agent in config.get("agents", {}).values() if agent.get("enabled") is True]
    if not enabled:
        yield "no agent is enabled"
    for agent in enabled:
        if agent.get("model_provider") not in models:
            yield f"model_provider {agent.get('model_provider')!r} is not there"
        for profile in ("risk_profile", "runtime_profile"):
            if agent.get(profile) not in config.get(f"{profile}s", {}):
                yield f"{profile} {agent.get(profile)!r} is not there"
        yield from (f"channel {name} is not there" for name in agent.get("channels", []) if name not in channels)
    for name, profile in config.get("risk_profiles", {}).items():
        if profile.get("level") not in LEVELS:
            yield f"risk_profiles.{name}.level is {profile.get('level')!r}"


def _gateway(config: dict[str, Any]) -> Iterator[str]:
    gateway = config.get("gateway", {})
    if gateway.get("host", "127.0.0.1") != "127.0.0.1" and gateway.get("allow_public_bind") is not True:
        yield "gateway.host is not allowed without allow_public_bind"
    if gateway.get("require_pairing") is not True:
        yield "whoever reaches it may use it: require_pairing is off"
    tokens = gateway.get("paired_tokens", [])
    if not tokens or not all(DIGEST.fullmatch(token) for token in tokens):
        yield "paired_tokens is not seeded with digests: /pair/code would hand a code to whoever asks first"


def _channels(config: dict[str, Any]) -> Iterator[str]:
    for kind, table in config.get("channels", {}).items():
        if kind not in IN_STOCK_IMAGE:
            yield f"channels.{kind}: not in the stock image"
        for alias, channel in table.items():
            if channel.get("enabled") is not True:
                yield f"channels.{kind}.{alias} is not enabled"
            if "allowed_users" in channel or "allow_from" in channel:
                yield f"channels.{kind}.{alias}: who may write stands in the peer groups"
            yield from (
                f"channels.{kind}.{alias} has no {name}" for name in NEEDED.get(kind, ()) if not channel.get(name)
            )


def _peers(config: dict[str, Any]) -> Iterator[str]:
    """Without a group of its own a channel lets nobody in; a star lets in anyone."""
    groups = config.get("peer_groups", {}).values()
    there = {f"{k}.{a}" for k, table in config.get("channels", {}).items() for a in table}
    grouped = {group.get("channel") for group in groups}
    yield from (f"peer group of {name}: no such channel" for name in grouped - there)
    yield from (f"channel {name} has no peer group" for name in there - grouped)
    for group in groups:
        if not set(group.get("agents", [])) <= set(config.get("agents", {})):
            yield "a peer group names an agent that is not there"
        if "*" in group.get("external_peers", []):
            yield f"{group.get('channel')}: anyone may write"


def _readable(config: dict[str, Any]) -> Iterator[str]:
    """The file is read-only to it: nothing may make it want to rewrite it."""
    if config.get("secrets", {}).get("encrypt") is not False:
        yield "secrets.encrypt would rewrite the file"
    if config.get("gateway", {}).get("check_updates") is not False:
        yield "check_updates is on"
    if config.get("observability", {}).get("backend") != "prometheus":
        yield "/metrics would be empty"
    if config.get("memory", {}).get("backend") != "sqlite":
        yield "memory.backend is not sqlite"
