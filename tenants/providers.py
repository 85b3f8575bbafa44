"""The model providers: one schema each, and where a tenant's agent finds its model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tenants.agents.base import ModelEndpoint
from tenants.fields import Field, clean, clean_all
from tenants.models import AgentConfig, Tenant
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

NO_KEY = SecretStr("unused")  # some agents insist on a key even where the service takes none


_CALLED = re.compile(r"(?:/+(?:chat/completions|completions|responses|embeddings|messages|models))?/*\Z")


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
    test_url: str = ""
    """What a test of the key reads; empty for ``/models`` below the address."""

    @property
    def allows_base_url(self) -> bool:
        return self.has_model and not self.base_url

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a form asks for: ``model``, perhaps ``base_url``, and ``provider_key``."""
        if not self.has_model:
            return ()
        model = Field("model", "Model", required=True, help=self.model_help, pattern=r"\S+", max_length=120)
        address = Field("base_url", "Address", "url", True, "Of an OpenAI-compatible service, up to and with /v1.")
        key = Field("provider_key", "API key", "secret", self.needs_key, pattern=r"[\x21-\x7e]+", max_length=1_000)
        return (model, address, key) if self.allows_base_url else (model, key)


_KINDS = (
    ProviderKind("demo", "None (the demo agent echoes)", needs_key=False, has_model=False),
    ProviderKind("openai", "OpenAI", "https://api.openai.com/v1", model_help="Like gpt-4o."),
    ProviderKind("anthropic", "Anthropic", "https://api.anthropic.com/v1", model_help="Like claude-opus-4-6."),
    ProviderKind("google", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ProviderKind("groq", "Groq", "https://api.groq.com/openai/v1"),
    ProviderKind("deepseek", "DeepSeek", "https://api.deepseek.com/v1", model_help="Like deepseek-chat."),
    ProviderKind(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        model_help="With vendor: vendor/model.",
        test_url="https://openrouter.ai/api/v1/key",  # its list of models is open to everybody
    ),
    ProviderKind("mistral", "Mistral", "https://api.mistral.ai/v1"),
    ProviderKind("xai", "xAI", "https://api.x.ai/v1"),
    ProviderKind("together", "Together AI", "https://api.together.xyz/v1"),
    ProviderKind("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1"),
    ProviderKind(
        "cohere", "Cohere", "https://api.cohere.ai/compatibility/v1", test_url="https://api.cohere.com/v1/models"
    ),
    ProviderKind("moonshot", "Moonshot (Kimi)", "https://api.moonshot.ai/v1"),
    ProviderKind("ollama", "Ollama", needs_key=False, model_help="Like llama3.2."),
    ProviderKind("custom", "Any OpenAI-compatible service"),
)
PROVIDERS: dict[str, ProviderKind] = {kind.name: kind for kind in _KINDS}


def base_of(address: str) -> str:
    """The address as agents want it: clients show it with what they call below it, and so it is pasted."""
    return _CALLED.sub("", address.strip().rstrip("/"))


def validate(*, provider: str, model: str, base_url: str, has_key: bool) -> dict[str, str]:
    """The columns of ``AgentConfig`` for these values; ``has_key`` says whether the tenant has a key of its own.

    InvalidField names the field; an unknown provider is ``unknown_provider``. Of an address only the form is
    checked. Without a provider (empty, or ``demo``) there is neither model nor address.
    """
    kind = PROVIDERS.get(provider or "demo")
    if kind is None:
        raise InvalidField("There is no such provider.", type="unknown_provider", field="provider")
    if not kind.has_model and (model or base_url):
        raise InvalidField("Choose a provider first: this one has neither model nor address.", field="provider")
    if not kind.has_model:
        return {"provider_name": provider, "provider_model": "", "base_url": ""}
    if base_url and not kind.allows_base_url:
        raise InvalidField(f"{kind.label} has an address of its own; choose “custom” for another.", field="base_url")
    values = {"model": model, "base_url": base_of(base_url)} if kind.allows_base_url else {"model": model}
    cleaned = clean_all([field for field in kind.fields if not field.secret], values)
    if kind.needs_key and not has_key:
        raise InvalidField(f"{kind.label} needs an API key.", field="provider_key")
    return {"provider_name": provider, "provider_model": cleaned["model"], "base_url": cleaned.get("base_url", "")}


def check_key(provider: str, key: SecretStr) -> SecretStr:
    """A provider's key as it goes into a header: printable ASCII without spaces; otherwise InvalidField."""
    kind = PROVIDERS.get(provider)
    fields = [field for field in kind.fields if field.secret] if kind else []
    if not fields:
        raise InvalidField("This provider takes no key.", field="provider_key")
    return clean(fields[0], key)


def endpoint_for(tenant: Tenant, key: SecretStr | None) -> ModelEndpoint | None:
    """Where the tenant's agent finds its model; None when it has no provider or lacks the key.

    ``key`` is the tenant's own. No other key ever goes to an address that a tenant has named.
    """
    return endpoint_of(tenant.config, key)


def endpoint_of(config: AgentConfig, key: SecretStr | None) -> ModelEndpoint | None:
    """The same from a row that may be nowhere but in memory."""
    kind, base_url = PROVIDERS.get(config.provider_name), address_of(config)
    if kind is None or not base_url or (kind.needs_key and not key):
        return None
    return ModelEndpoint(kind.name, config.provider_model, base_url, key or NO_KEY)


def address_of(config: AgentConfig) -> str:
    """The address of the tenant's model; empty when it has none."""
    kind = PROVIDERS.get(config.provider_name)
    return (kind.base_url or config.base_url) if kind and kind.has_model else ""
