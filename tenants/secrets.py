"""The secrets of a tenant and of its channels: kept in the vault, tied by ``TenantSecret``."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import transaction

from tenants.models import Channel, Tenant, TenantSecret
from vault import services as vault
from zcplatform.lib.actors import Actor
from zcplatform.lib.redact import SecretStr

PURPOSE = "tenant"


@dataclass(frozen=True)
class Opened:
    """Secrets by field name, of the tenant itself and of each channel by its key."""

    of_tenant: dict[str, SecretStr] = field(default_factory=dict)
    channels: dict[int, dict[str, SecretStr]] = field(default_factory=dict)

    def of_channel(self, channel_id: int) -> dict[str, SecretStr]:
        return self.channels.get(channel_id, {})


def put(tenant: Tenant, name: str, value: SecretStr, *, actor: Actor, channel: Channel | None = None) -> None:
    """Store or replace one secret."""
    with transaction.atomic():
        tie = TenantSecret.objects.filter(tenant=tenant, channel=channel, field=name).select_related("secret").first()
        if tie is not None:
            vault.replace(tie.secret, value, actor=actor)
            return
        purpose = PURPOSE if channel is None else f"channel:{channel.public_id.hex}"
        secret = vault.put(purpose=purpose, owner=str(tenant.public_id), field=name, value=value, actor=actor)
        TenantSecret.objects.create(tenant=tenant, channel=channel, field=name, secret=secret)


def reveal_all(tenant: Tenant, *, actor: Actor, why: str) -> Opened:
    """Every secret of the tenant, with one audit row. VaultError when one does not open."""
    ties = list(TenantSecret.objects.filter(tenant=tenant).select_related("secret"))
    values = vault.reveal_many([tie.secret for tie in ties], actor=actor, why=why)
    opened = Opened()
    for tie in ties:
        scope = opened.of_tenant if tie.channel_id is None else opened.channels.setdefault(tie.channel_id, {})
        scope[tie.field] = values[tie.secret_id]
    return opened


def reveal_field(tenant: Tenant, name: str, *, actor: Actor, why: str) -> SecretStr | None:
    """One secret of the tenant itself, with an audit row; None when there is none."""
    tie = TenantSecret.objects.filter(tenant=tenant, channel=None, field=name).select_related("secret").first()
    return vault.reveal(tie.secret, actor=actor, why=why) if tie else None


def reveal_channel(channel: Channel, *, actor: Actor, why: str) -> dict[str, SecretStr]:
    """The secrets of one channel by field name, with one audit row."""
    ties = list(channel.secrets.select_related("secret"))
    values = vault.reveal_many([tie.secret for tie in ties], actor=actor, why=why)
    return {tie.field: values[tie.secret_id] for tie in ties}


def remove(tenant: Tenant, *, actor: Actor, channel: Channel | None = None, name: str | None = None) -> None:
    """Delete secrets for good: all of the tenant, those of one channel, or one field."""
    ties = TenantSecret.objects.filter(tenant=tenant).select_related("secret")
    if channel is not None:
        ties = ties.filter(channel=channel)
    if name is not None:
        ties = ties.filter(channel=channel, field=name)
    found = list(ties)
    with transaction.atomic():
        TenantSecret.objects.filter(pk__in=[tie.pk for tie in found]).delete()
        vault.delete([tie.secret for tie in found], actor=actor)
