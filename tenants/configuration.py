"""What a tenant's agent is told: provider, model, channels. Checked by the schemas, secrets into the vault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction

from tenants import channels as schemas
from tenants import origins, providers, revisions, secrets
from tenants.access import require
from tenants.agents import agent_kind
from tenants.egress import reach
from tenants.egress import services as egress
from tenants.models import AgentConfig, Channel, Run, Tenant
from tenants.runs import change
from tenants.states import RunKind
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.words import count


@dataclass(frozen=True)
class ConfigInput:
    """What somebody asks for. None leaves a value as it is; an empty ``provider_key`` removes the key."""

    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    provider_key: SecretStr | None = None
    extra: Mapping[str, Any] | None = None
    egress: str | None = None
    """A mode of what the agent may connect to; empty for the plan's default."""
    egress_hosts: tuple[str, ...] | None = None
    channels: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=())
    """Kind and values of channels to add, secrets among the values."""

    def complete(self) -> ConfigInput:
        """The whole configuration instead of a part: what is not given is empty. Only the key, which nobody can read
        back, stays as long as it would go to the same place; and what the agent may connect to is never widened by
        silence."""
        return replace(
            self,
            provider=self.provider or "",
            model=self.model or "",
            base_url=self.base_url or "",
            extra=self.extra or {},
        )


@dataclass(frozen=True)
class Checked:
    columns: dict[str, Any]
    provider_key: SecretStr | None
    channels: tuple[tuple[str, dict[str, Any], dict[str, SecretStr]], ...]


def check(agent: str, given: ConfigInput, current: Tenant | None = None, *, key_id: str = "") -> Checked:
    """Validate against the agent's and the provider's schema; InvalidField names the field. ``key_id`` is the public id
    of a key that would come back with a revision."""
    columns: dict[str, Any] = {}
    key: SecretStr | None = None
    if {given.provider, given.model, given.base_url, given.provider_key} != {None}:
        columns, key = _check_provider(given, current, key_id)
    if given.extra is not None:
        columns["extra_config"] = agent_kind(agent).check_extra(given.extra)
    return Checked(columns, key, tuple(_check_channel(agent, kind, values) for kind, values in given.channels))


def update(*, actor: Actor, tenant: Tenant, given: ConfigInput) -> Run | None:
    """Change the configuration and apply it; None when the tenant is down. Conflict ``run_active``; what the agent may
    connect to is refused as by ``egress.services.set_egress``, and an address of the model that a narrow mode keeps it
    from is among that."""
    require(actor, "config.update", tenant)  # what is refused would tell of the tenant
    checked = check(tenant.agent_kind, given, tenant)
    reach = egress.allowed(
        actor=actor, tenant=tenant, mode=given.egress, hosts=given.egress_hosts, model=checked.columns
    )
    checked = replace(checked, columns={**checked.columns, **reach})

    def prepare(row: Tenant) -> None:
        egress.recheck(row, checked.columns, actor=actor)
        with revisions.kept(row, "config.update", actor=actor):
            store(row, checked, actor=actor)
        egress.tell(row, reach, actor=actor)

    return change(
        tenant,
        RunKind.RECONFIGURE,
        "config.update",
        actor=actor,
        prepare=prepare,
        changed=sorted([*checked.columns, *(["provider_key"] if checked.provider_key is not None else [])]),
    )


def add_channel(*, actor: Actor, tenant: Tenant, kind: str, values: Mapping[str, Any]) -> tuple[Channel, Run | None]:
    """Add a channel and apply it. Forbidden ``plan_limit``, InvalidField, Conflict ``run_active``."""
    require(actor, "channels.update", tenant)  # as above
    checked = _check_channel(tenant.agent_kind, kind, values)
    added: list[Channel] = []

    def prepare(row: Tenant) -> None:
        with revisions.kept(row, "channel.create", actor=actor):
            added.append(_store_channel(row, *checked, actor=actor))

    run = change(
        tenant,
        RunKind.RECONFIGURE,
        "channel.create",
        actor=actor,
        ability="channels.update",
        prepare=prepare,
        channel_kind=kind,
    )
    return added[0], run


def update_channel(
    *, actor: Actor, channel: Channel, values: Mapping[str, Any], enabled: bool | None = None
) -> Run | None:
    """Change some fields of a channel; secrets that are not given stay, but are hidden by another address: a channel
    that lacks one is off until it is entered again. NotFound when it is gone."""
    tenant = channel.tenant
    require(actor, "channels.update", tenant)  # as above
    config, opened = schemas.validate(channel.channel_type, values, partial=True)

    def prepare(row: Tenant) -> None:
        fresh = _channel(row, channel.pk)
        with revisions.kept(row, "channel.update", actor=actor):
            fresh.config = {**fresh.config, **config}
            fresh.enabled = fresh.enabled if enabled is None else enabled
            fresh.updated_at = clock.now()
            fresh.save(update_fields=["config", "enabled", "updated_at"])
            for name, value in opened.items():
                secrets.put(row, name, value, actor=actor, channel=fresh)
            if enabled:
                _check_complete(fresh)
            _switch_off_incomplete(fresh)

    changed = sorted([*config, *opened, *([] if enabled is None else ["enabled"])])
    return change(
        tenant,
        RunKind.RECONFIGURE,
        "channel.update",
        actor=actor,
        ability="channels.update",
        prepare=prepare,
        channel=str(channel.public_id),
        changed=changed,
    )


def delete_channel(*, actor: Actor, channel: Channel) -> Run | None:
    """Remove a channel with its secrets and apply it. NotFound when it is gone."""
    public_id, pk = str(channel.public_id), channel.pk

    def prepare(row: Tenant) -> None:
        fresh = _channel(row, pk)
        with revisions.kept(row, "channel.delete", actor=actor):
            secrets.remove(row, actor=actor, channel=fresh)
            fresh.delete()

    return change(
        channel.tenant,
        RunKind.RECONFIGURE,
        "channel.delete",
        actor=actor,
        ability="channels.update",
        prepare=prepare,
        channel=public_id,
    )


def store(tenant: Tenant, checked: Checked, *, actor: Actor) -> None:
    """Write what was checked; inside the caller's transaction."""
    with transaction.atomic():
        config = tenant.config
        for name, value in checked.columns.items():
            setattr(config, name, value)
        config.updated_at = clock.now()
        config.save()
        if checked.provider_key is not None and not checked.provider_key:
            secrets.remove(tenant, actor=actor, name="provider_key")
        elif checked.provider_key is not None:
            secrets.put(tenant, "provider_key", checked.provider_key, actor=actor)
        elif not providers.address_of(config):
            secrets.untie(tenant, "provider_key")
        for kind, values, opened in checked.channels:
            _store_channel(tenant, kind, values, opened, actor=actor)


def _check_provider(given: ConfigInput, current: Tenant | None, key_id: str) -> tuple[dict[str, str], SecretStr | None]:
    """The provider's columns as they will be, and its key: None leaves the key, an empty one removes it.

    With another provider everything of the old one goes. A key that was entered for another place counts as none: it
    never travels to another host.
    """
    config = current.config if current else None
    provider = given.provider if given.provider is not None else (config.provider_name if config else "")
    kept = config if config and config.provider_name == provider else None
    base_url = given.base_url if given.base_url is not None else (kept.base_url if kept else "")
    stays = current is not None and "provider_key" in secrets.available(
        current, origins.of_model(AgentConfig(provider_name=provider, base_url=base_url)), {"provider_key": key_id}
    )
    key = providers.check_key(provider, given.provider_key) if given.provider_key else given.provider_key
    columns = providers.validate(
        provider=provider,
        model=given.model if given.model is not None else (kept.provider_model if kept else ""),
        base_url=base_url,
        has_key=bool(key) or (key is None and stays),
    )
    if current is not None:
        reach.refuse_itself(current.node, columns["base_url"])
    return columns, key


def _check_channel(
    agent: str, kind: str, values: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, SecretStr]]:
    if kind in schemas.CHANNELS and kind not in agent_kind(agent).channels:
        raise InvalidField(
            f"{agent_kind(agent).label} can't carry the channel “{kind}”.", type="unsupported_channel", field="kind"
        )
    config, opened = schemas.validate(kind, values)
    return kind, config, opened


def _channel(tenant: Tenant, pk: int) -> Channel:
    channel = Channel.objects.select_for_update().filter(pk=pk, tenant=tenant).first()
    if channel is None:
        raise NotFound("This channel is gone already.")
    return channel


def missing_secrets(channel: Channel, named: Mapping[str, str] | None = None) -> list[str]:
    """The secret fields that the channel needs and does not have: after a rollback that brought it back, or because
    they were entered for another address. ``named`` are those of a revision, which would come back."""
    kept = secrets.available(channel.tenant, origins.of_channel(channel), named or {}, channel=channel)
    fields = schemas.CHANNELS[channel.channel_type].fields
    return [field.name for field in fields if field.secret and field.required and field.name not in kept]


def _check_complete(channel: Channel) -> None:
    if missing := missing_secrets(channel):
        raise InvalidField("This channel needs the secret before it can be on.", field=missing[0])


def _switch_off_incomplete(channel: Channel) -> None:
    if channel.enabled and missing_secrets(channel):
        channel.enabled = False
        channel.save(update_fields=["enabled"])


def _store_channel(
    tenant: Tenant, kind: str, config: dict[str, Any], opened: dict[str, SecretStr], *, actor: Actor
) -> Channel:
    limit = tenant.plan.max_channels
    if tenant.channels.count() >= limit:
        raise Forbidden(
            f"The plan {tenant.plan.name} allows {count(limit, 'channel')}.", type="plan_limit", limit=limit
        )
    channel = Channel.objects.create(tenant=tenant, channel_type=kind, config=config)
    for name, value in opened.items():
        secrets.put(tenant, name, value, actor=actor, channel=channel)
    return channel
