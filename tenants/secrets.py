"""The secrets of a tenant and of its channels: kept in the vault, tied by ``TenantSecret``.

A tie whose secret was entered for another place than the present one is hidden: it stays, and is not used. A secret
without a tie stays for as long as a revision of the configuration names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import Q, QuerySet

from tenants import origins
from tenants.models import AgentConfig, Channel, ConfigRevision, Tenant, TenantSecret
from vault import services as vault
from vault.models import Secret
from zcplatform.lib.actors import Actor
from zcplatform.lib.redact import SecretStr

PURPOSE = "tenant"


@dataclass(frozen=True)
class Opened:
    """Secrets in use by field name, of the tenant itself and of each channel by its key; ``hidden`` are those that are
    kept and not used."""

    of_tenant: dict[str, SecretStr] = field(default_factory=dict)
    channels: dict[int, dict[str, SecretStr]] = field(default_factory=dict)
    hidden: list[SecretStr] = field(default_factory=list)

    def of_channel(self, channel_id: int) -> dict[str, SecretStr]:
        return self.channels.get(channel_id, {})

    def values(self) -> Iterator[SecretStr]:
        """All of them, whose they are and whether they are in use or not."""
        for scope in (self.of_tenant, *self.channels.values()):
            yield from scope.values()
        yield from self.hidden


def put(tenant: Tenant, name: str, value: SecretStr, *, actor: Actor, channel: Channel | None = None) -> None:
    """Store or replace one secret, for the place that it would go to now. One for another place makes way for it, and
    stays behind for the revisions that name it."""
    origin = origins.of_field(tenant, name, channel)
    with transaction.atomic():
        tie = _ties(tenant).filter(channel=channel, field=name).first()
        if tie is not None and tie.secret.origin == origin:
            vault.replace(tie.secret, value, actor=actor)
            return
        owner = str(tenant.public_id)
        secret = vault.put(purpose=_purpose(channel), owner=owner, field=name, value=value, actor=actor, origin=origin)
        _tie(tenant, channel, name, secret)


def available(tenant: Tenant, origin: str, named: Mapping[str, str], *, channel: Channel | None = None) -> set[str]:
    """The names of secrets that were entered for ``origin``: of those in use, and of those that a revision names (field
    to public id) and that are still there. Of one channel, or of the tenant itself."""
    rows = _rows(tenant, channel).filter(origin=origin).values_list("field", "public_id", "tie")
    return {name for name, public_id, tie in rows if tie is not None or named.get(name) == str(public_id)}


def has_key(tenant: Tenant, config: AgentConfig) -> bool:
    """Whether the tenant has a key for the model of ``config``, which may be nowhere but in memory."""
    return "provider_key" in available(tenant, origins.of_model(config), {})


def revive(tenant: Tenant, named: Mapping[str, str], *, channel: Channel | None = None) -> None:
    """Take secrets that a revision names (field to public id) back into use, where the present one is absent or hidden
    and they were entered for the place that they would go to now. What is gone from the vault stays gone."""
    for name, public_id in named.items():
        origin = origins.of_field(tenant, name, channel)
        if name in available(tenant, origin, {}, channel=channel):
            continue
        secret = _rows(tenant, channel).filter(field=name, public_id=public_id, origin=origin).first()
        if secret is not None:
            _tie(tenant, channel, name, secret)


def reveal_all(tenant: Tenant, *, actor: Actor, why: str, left_behind: bool = False) -> Opened:
    """Every secret of the tenant that has a tie, with one audit row; with ``left_behind`` those as well that stay for
    the revisions: a rollback brings them back, so no output may tell them. VaultError when one does not open."""
    ties = list(_ties(tenant).select_related("channel", "tenant__config"))
    others = list(_left_behind(tenant)) if left_behind else []
    values = vault.reveal_many([*(tie.secret for tie in ties), *others], actor=actor, why=why)
    opened = Opened(hidden=[values[secret.pk] for secret in others])
    for tie in ties:
        if origins.is_hidden(tie):
            opened.hidden.append(values[tie.secret_id])
            continue
        scope = opened.of_tenant if tie.channel_id is None else opened.channels.setdefault(tie.channel_id, {})
        scope[tie.field] = values[tie.secret_id]
    return opened


def reveal_field(tenant: Tenant, name: str, *, origin: str, actor: Actor, why: str) -> SecretStr | None:
    """One secret of the tenant itself, with an audit row; None when there is none that was entered for ``origin``."""
    tie = _ties(tenant).filter(channel=None, field=name, secret__origin=origin).first()
    return vault.reveal(tie.secret, actor=actor, why=why) if tie else None


def reveal_channel(channel: Channel, *, actor: Actor, why: str) -> dict[str, SecretStr]:
    """The secrets of one channel by field name, with one audit row; without those entered for another place than that
    of the given ``channel``."""
    ties = list(channel.secrets.filter(secret__origin=origins.of_channel(channel)).select_related("secret"))
    values = vault.reveal_many([tie.secret for tie in ties], actor=actor, why=why)
    return {tie.field: values[tie.secret_id] for tie in ties}


def untie(tenant: Tenant, name: str) -> None:
    """Take one secret of the tenant itself out of use; it stays for as long as a revision names it."""
    TenantSecret.objects.filter(tenant=tenant, channel=None, field=name).delete()


def remove(tenant: Tenant, *, actor: Actor, channel: Channel | None = None, name: str | None = None) -> None:
    """Delete secrets for good: all of the tenant, those of one channel, or one field. What stayed behind for the
    revisions goes with the tenant or its channel."""
    ties = _ties(tenant)
    if channel is not None or name is not None:
        ties = ties.filter(channel=channel)
    if name is not None:
        ties = ties.filter(field=name)
    found = list(ties)
    with transaction.atomic():
        TenantSecret.objects.filter(pk__in=[tie.pk for tie in found]).delete()
        left = [] if name is not None else _left_behind(tenant, channel)
        vault.delete([*(tie.secret for tie in found), *left], actor=actor)


def forget_unnamed(tenant: Tenant, *, actor: Actor) -> None:
    """Delete what stayed behind and is named by no revision any more; inside the caller's transaction."""
    left = list(_left_behind(tenant))
    if left:
        named = _named(tenant)
        vault.delete([secret for secret in left if str(secret.public_id) not in named], actor=actor)


def _named(tenant: Tenant) -> set[str]:
    """The public ids of all secrets in the tenant's revisions."""
    found: set[str] = set()
    for state in ConfigRevision.objects.filter(tenant=tenant).values_list("snapshot", flat=True):
        for scope in (state, *state["channels"]):
            found.update(scope["secrets"].values())
    return found


def _purpose(channel: Channel | None) -> str:
    return PURPOSE if channel is None else f"channel:{channel.public_id.hex}"


def _ties(tenant: Tenant) -> QuerySet[TenantSecret]:
    return TenantSecret.objects.filter(tenant=tenant).select_related("secret")


def _tie(tenant: Tenant, channel: Channel | None, name: str, secret: Secret) -> None:
    TenantSecret.objects.update_or_create(tenant=tenant, channel=channel, field=name, defaults={"secret": secret})


def _rows(tenant: Tenant, channel: Channel | None) -> QuerySet[Secret]:
    """Those of the tenant itself, or of one channel, tied or not."""
    return Secret.objects.filter(owner=str(tenant.public_id), purpose=_purpose(channel))


def _left_behind(tenant: Tenant, channel: Channel | None = None) -> QuerySet[Secret]:
    rows = Secret.objects.filter(Q(purpose=PURPOSE) | Q(purpose__startswith="channel:"), tie__isnull=True)
    rows = rows.filter(owner=str(tenant.public_id))
    return rows if channel is None else rows.filter(purpose=_purpose(channel))
