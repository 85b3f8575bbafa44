"""What a change of the configuration would change in the files that the agent reads. Nothing is stored, no secret is
opened: a stand-in takes the place of each."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tenants import origins, secrets
from tenants.access import require
from tenants.agents import agent_kind
from tenants.agents.base import AgentSettings, ChannelSettings
from tenants.configuration import Checked, ConfigInput, check
from tenants.egress import services as egress
from tenants.egress.policy import default_of
from tenants.models import AgentConfig, Channel, Tenant
from tenants.providers import endpoint_of
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Placement
from tenants.states import Desired
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField, RunFailed
from zcplatform.lib.redact import SecretStr

MAX_DIFF = 65_536
"""Characters of one file's diff."""


@dataclass(frozen=True)
class FileChange:
    """``change`` is added, removed or changed; ``diff`` is in the unified format, with stand-ins for secrets."""

    name: str
    change: str
    diff: str


@dataclass(frozen=True)
class Preview:
    """``restart``: the running agent would be restarted to read its files anew, or moved to another network.
    ``egress`` is a diff of what it may connect to; empty when that stays."""

    files: tuple[FileChange, ...]
    restart: bool
    egress: str = ""


class StandIn(SecretStr):
    """What is shown instead of a secret."""

    __slots__ = ()

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"[{name}: {state}]")


def preview(*, actor: Actor, tenant: Tenant, given: ConfigInput) -> Preview:
    """The difference that ``configuration.update`` with the same input would make.

    InvalidField as there, and ``bad_config`` when the agent could not start with it. Of a tenant that has no slot yet
    the files are those of the node's first port.
    """
    require(actor, "config.update", tenant)
    checked = check(tenant.agent_kind, given, tenant)
    place, now = _place(tenant), _settings(tenant)
    try:
        after = _files(tenant, _changed(now, tenant, checked), place)
    except RunFailed as error:
        raise InvalidField(error.message, type=error.type, field="") from error
    files = _compare(_files_as_they_are(tenant, now, place), after)
    reach = egress.allowed(
        actor=actor, tenant=tenant, mode=given.egress, hosts=given.egress_hosts, model=checked.columns
    )
    moved, diff = _egress(tenant, reach)
    return Preview(files, restart=(bool(files) or moved) and tenant.desired == Desired.RUNNING, egress=diff)


def _egress(tenant: Tenant, columns: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether another mode would hold, and the diff of mode and hosts."""
    changed = copy.copy(tenant.config)
    for name, value in columns.items():
        setattr(changed, name, value)
    before, after = (_reach(config, tenant.plan.slug) for config in (tenant.config, changed))
    return before[0] != after[0], _diff("egress", *({"egress": "".join(lines).encode()} for lines in (before, after)))


def _reach(config: AgentConfig, plan: str) -> list[str]:
    mode = config.egress or default_of(plan)
    return [f"mode: {mode}\n", *(f"host: {host}\n" for host in config.egress_hosts)]


def _place(tenant: Tenant) -> Placement:
    kind = agent_kind(tenant.agent_kind)
    return runtime_for(tenant.node).place(
        config_dir=kind.config_dir,
        data_dir=kind.data_dir,
        listen_port=kind.listen_port,
        folder=tenant.folder,
        port=tenant.port or tenant.node.port_first,
    )


def _settings(tenant: Tenant) -> AgentSettings:
    key = StandIn("provider_key", "stored") if secrets.has_key(tenant, tenant.config) else None
    return AgentSettings(
        tenant=str(tenant.public_id),
        slug=tenant.slug,
        name=tenant.name,
        agent_token=StandIn("agent_token", "stored"),
        model=endpoint_of(tenant.config, key),
        channels=tuple(
            ChannelSettings(
                f"c{channel.pk}",
                channel.channel_type,
                channel.config,
                {field: StandIn(field, "stored") for field in sorted(_usable(channel))},
            )
            for channel in tenant.channels.filter(enabled=True).order_by("pk")
        ),
        extra=tenant.config.extra_config,
    )


def _usable(channel: Channel) -> set[str]:
    return secrets.available(channel.tenant, origins.of_channel(channel), {}, channel=channel)


def _changed(now: AgentSettings, tenant: Tenant, checked: Checked) -> AgentSettings:
    """``now`` as it would be; a key that stays has its stand-in still, a new one is told as new."""
    config: AgentConfig = copy.copy(tenant.config)
    for name, value in checked.columns.items():
        setattr(config, name, value)
    key: SecretStr | None = StandIn("provider_key", "new") if checked.provider_key else None
    if checked.provider_key is None and secrets.has_key(tenant, config):
        key = StandIn("provider_key", "stored")
    return replace(now, model=endpoint_of(config, key), extra=config.extra_config)


def _files(tenant: Tenant, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
    return agent_kind(tenant.agent_kind).config_files(settings, place)


def _files_as_they_are(tenant: Tenant, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
    """None, as long as the agent lacks what it needs."""
    try:
        return _files(tenant, settings, place)
    except RunFailed:
        return {}


def _compare(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> tuple[FileChange, ...]:
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return tuple(FileChange(name, _kind(name, before, after), _diff(name, before, after)) for name in names)


def _kind(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    return "added" if name not in before else "removed" if name not in after else "changed"


def _diff(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    old, new = (files.get(name, b"").decode("utf-8", "replace").splitlines(keepends=True) for files in (before, after))
    return "".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"))[:MAX_DIFF]
