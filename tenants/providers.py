"""The model providers: one schema each, and where a tenant's agent finds its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenants.agents.base import ModelEndpoint
from tenants.fields import Field, clean_all
from tenants.models import AgentConfig, Tenant
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

KEY_FIELD = "provider_key"


@dataclass(frozen=True)
class ProviderKind:
    """``base_url`` is the provider's own OpenAI-compatible address; without one the tenant has to name it.

    The tenant may name an address only where there is none: so the key of one provider never goes to another host.
    """

    name: str
    label: str
    base_url: str = ""
    needs_key: bool = True
    has_model: bool = True
    model_help: str = ""

    @property
    def allows_base_url(self) -> bool:
        return self.has_model and not self.base_url

    @property
    def fields(self) -> tuple[Field, ...]:
        if not self.has_model:
            return ()
        model = Field("provider_model", "Model", required=True, help=self.model_help, pattern=r"\S+", max_length=120)
        address = Field("base_url", "Address", "url", True, "Of an OpenAI-compatible service, up to and with /v1.")
        key = Field(KEY_FIELD, "API key", "secret", self.needs_key, pattern=r"[\x21-\x7e]+", max_length=1_000)
        return (model, address, key) if self.allows_base_url else (model, key)


_KINDS = (
    ProviderKind("demo", "None (the demo agent echoes)", needs_key=False, has_model=False),
    ProviderKind("openai", "OpenAI", "https://api.openai.com/v1", model_help="Like gpt-4o."),
    ProviderKind("anthropic", "Anthropic", "https://api.anthropic.com/v1", model_help="Like claude-opus-4-6."),
    ProviderKind("google", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ProviderKind("groq", "Groq", "https://api.groq.com/openai/v1"),
    ProviderKind("deepseek", "DeepSeek", "https://api.deepseek.com/v1", model_help="Like deepseek-chat."),
    ProviderKind("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", model_help="With vendor: vendor/model."),
    ProviderKind("mistral", "Mistral", "https://api.mistral.ai/v1"),
    ProviderKind("xai", "xAI", "https://api.x.ai/v1"),
    ProviderKind("together", "Together AI", "https://api.together.xyz/v1"),
    ProviderKind("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1"),
    ProviderKind("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1"),
    ProviderKind("moonshot", "Moonshot (Kimi)", "https://api.moonshot.ai/v1"),
    ProviderKind("ollama", "Ollama", needs_key=False, model_help="Like llama3.2."),
    ProviderKind("custom", "Any OpenAI-compatible service"),
)
PROVIDERS: dict[str, ProviderKind] = {kind.name: kind for kind in _KINDS}


def validate(
    provider: str, values: Mapping[str, Any], *, partial: bool = False
) -> tuple[dict[str, Any], dict[str, SecretStr]]:
    """What to store of ``provider_model``, ``base_url`` and ``provider_key``: the configuration, and the secret.

    InvalidField names the field; an unknown provider is ``unknown_provider``. Of an address only the form is
    checked here. With ``partial`` only what is given is checked.
    """
    kind = PROVIDERS.get(provider)
    if kind is None:
        raise InvalidField("There is no such provider.", type="unknown_provider", field="provider_name")
    cleaned = clean_all(kind.fields, values, partial=partial)
    key = cleaned.pop(KEY_FIELD, None)
    return cleaned, {KEY_FIELD: key} if key is not None else {}


def endpoint_for(tenant: Tenant, key: SecretStr | None) -> ModelEndpoint | None:
    """The tenant's model, with its own opened ``key`` and no other; None when it has no provider or lacks the key."""
    config = AgentConfig.objects.filter(tenant=tenant).first()
    kind = PROVIDERS.get(config.provider_name) if config else None
    if config is None or kind is None or not kind.has_model:
        return None
    base_url = kind.base_url or config.base_url
    if not base_url or (kind.needs_key and not key):
        return None
    return ModelEndpoint(kind.name, config.provider_model, base_url, key or SecretStr(""))
