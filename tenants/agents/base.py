"""The contract of an agent kind: pure functions from what the rows say to what the program reads and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenants.runtimes.base import Placement
from zcplatform.lib.redact import SecretStr


@dataclass(frozen=True)
class ModelEndpoint:
    """Where the agent finds its model: the tenant's own key and address today, the gateway's once it exists.

    ``provider`` is a name from ``tenants.providers``; ``base_url`` is OpenAI-compatible and may be empty when the
    provider has a well-known address of its own.
    """

    provider: str
    model: str
    base_url: str
    api_key: SecretStr


@dataclass(frozen=True)
class ChannelSettings:
    """One enabled channel: ``id`` is stable and ``[a-z0-9_]``; ``config`` and ``secrets`` follow its schema."""

    id: str
    kind: str
    config: Mapping[str, Any]
    secrets: Mapping[str, SecretStr]


@dataclass(frozen=True)
class AgentSettings:
    """All that a config file is rendered from. ``agent_token`` is the bearer that the platform uses to speak to
    the agent; it never leaves the platform. ``extra`` is validated by the kind's ``check_extra``."""

    tenant: str
    slug: str
    name: str
    agent_token: SecretStr
    model: ModelEndpoint | None
    channels: tuple[ChannelSettings, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counters:
    """Cumulative counts since the agent started. None means "no data", which is not zero."""

    messages_in: int | None = None
    messages_out: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class ChatCall:
    """One request to an agent: path and headers to send, the body as JSON."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class AgentKind(Protocol):
    name: str
    label: str
    min_memory_mb: int
    start_grace_s: int
    config_dir: str
    """The configuration folder inside a container."""
    data_dir: str
    """The writable folder inside a container."""
    listen_port: int
    """The port inside a container."""
    public_paths: tuple[str, ...]
    """What the tenant's address serves besides the platform's chat door: exact paths, or prefixes ending in ``/*``."""
    diagnostic_commands: tuple[tuple[str, ...], ...]
    """What a manager may run with exec: argv prefixes."""
    channels: frozenset[str]
    """The channel kinds that this agent can carry."""
    needs_model: bool
    """Whether the program can't start without a provider and a model."""
    health_path: str
    metrics_path: str | None

    def check_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Validated ``extra_config``: unknown keys, depth over 8, 32 KB and non-finite numbers are InvalidField."""

    def config_files(self, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
        """File name -> content, below the configuration folder. Pure: the same input gives the same bytes."""

    def argv(self, place: Placement) -> tuple[str, ...]:
        """The command; no secret in it."""

    def env(self, place: Placement) -> dict[str, str]:
        """The environment; no secret in it."""

    def healthy(self, status: int, body: bytes) -> bool:
        """Judge the answer of ``health_path``."""

    def counters(self, text: str) -> Counters:
        """Read ``/metrics``; both families of names are accepted (``zeroclaw_messages_total`` and
        ``zeroclaw_channel_messages_total``, ...), summed over labels."""

    def chat_call(self, body: Mapping[str, Any], token: SecretStr) -> ChatCall:
        """Turn an OpenAI chat-completions request into the agent's own."""

    def chat_reply(self, body: Mapping[str, Any], answer: bytes) -> dict[str, Any]:
        """Turn the agent's whole answer into an OpenAI ``chat.completion``; BadUpstream when it makes no sense."""

    def chat_stream(self, body: Mapping[str, Any], chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Turn the agent's answer into server-sent events of ``chat.completion.chunk``, ended by ``[DONE]``."""
