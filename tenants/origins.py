"""Where a tenant's secrets may go. Each was entered for one place (scheme, host, port) and is used with no other."""

from __future__ import annotations

from tenants.channels import CHANNELS
from tenants.fields import place_of
from tenants.models import AgentConfig, Channel, Tenant, TenantSecret
from tenants.providers import address_of


def of_model(config: AgentConfig) -> str:
    """Where the provider's key goes with this configuration; empty when there is no model."""
    return place_of(address_of(config)) if address_of(config) else ""


def of_channel(channel: Channel) -> str:
    """Where the channel's secrets go; empty where nobody chooses that."""
    kind = CHANNELS.get(channel.channel_type)
    return kind.origin(channel.config) if kind else ""


def of_field(tenant: Tenant, name: str, channel: Channel | None = None) -> str:
    """Where a secret with this name would go now."""
    if channel is not None:
        return of_channel(channel)
    return of_model(tenant.config) if name == "provider_key" else ""


def is_hidden(tie: TenantSecret) -> bool:
    """Whether the secret was entered for another place than the one it would go to now: then it is not used."""
    return tie.secret.origin != of_field(tie.tenant, tie.field, tie.channel)
