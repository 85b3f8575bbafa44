"""From a tenant's rows to the frozen spec that a runtime gets. Nothing a user typed becomes an engine option."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from django.conf import settings

from tenants.agents import agent_kind
from tenants.agents.base import AgentSettings, ChannelSettings
from tenants.egress import policy
from tenants.models import Tenant
from tenants.providers import endpoint_for
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentSpec, Placement
from tenants.secrets import reveal_all
from zcplatform.lib.actors import SYSTEM


def placement(tenant: Tenant) -> Placement:
    """Where the tenant's agent will find itself."""
    kind = agent_kind(tenant.agent_kind)
    return runtime_for(tenant.node).place(
        config_dir=kind.config_dir,
        data_dir=kind.data_dir,
        listen_port=kind.listen_port,
        folder=tenant.folder,
        port=_allocated(tenant.port),
    )


def config_files(tenant: Tenant) -> dict[str, bytes]:
    """The tenant's configuration as it should stand in its folder. Reads secrets, so it writes an audit row."""
    place = placement(tenant)
    proxy = policy.proxy_url(policy.mode_of(tenant)) if place.in_container else ""
    return agent_kind(tenant.agent_kind).config_files(replace(agent_settings(tenant), proxy=proxy), place)


def agent_settings(tenant: Tenant) -> AgentSettings:
    """The tenant's rows with their secrets opened."""
    opened = reveal_all(tenant, actor=SYSTEM, why="render configuration")
    channels = tuple(
        ChannelSettings(
            id=f"c{channel.pk}",
            kind=channel.channel_type,
            config=channel.config,
            secrets=opened.of_channel(channel.pk),
        )
        for channel in tenant.channels.filter(enabled=True).order_by("pk")
    )
    return AgentSettings(
        tenant=str(tenant.public_id),
        slug=tenant.slug,
        name=tenant.name,
        agent_token=opened.of_tenant["agent_token"],
        model=endpoint_for(tenant, opened.of_tenant.get("provider_key")),
        channels=channels,
        extra=tenant.config.extra_config,
    )


def hash_files(files: Mapping[str, bytes]) -> str:
    """Names and content in one digest. It can stand in a label: every configuration holds a random 256-bit token,
    so nothing else in it can be guessed from the digest."""
    digest = hashlib.sha256()
    for name in sorted(files):
        # What stands in the folder may have been named by the agent: any bytes.
        digest.update(f"{name}\0{len(files[name])}\0".encode("utf-8", "surrogateescape"))
        digest.update(files[name])
    return digest.hexdigest()[:32]


def build_spec(tenant: Tenant, *, run: str, epoch: int, image: str, config_hash: str) -> AgentSpec:
    """The whole spec; ``image`` is what ``ensure_image`` returned."""
    kind, place = agent_kind(tenant.agent_kind), placement(tenant)
    plan, egress = tenant.plan, policy.mode_of(tenant)
    proxied = policy.proxy_environment(egress) if place.in_container else {}
    return AgentSpec(
        instance=settings.INSTANCE,
        tenant=str(tenant.public_id),
        name=f"{settings.CONTAINER_PREFIX}-{tenant.slug}",
        hostname=f"zc-{tenant.public_id.hex[:12]}",
        kind=kind.name,
        run=run,
        epoch=epoch,
        slot=_allocated(tenant.slot),
        port=_allocated(tenant.port),
        uid=_allocated(tenant.uid),
        image=image,
        argv=kind.argv(place),
        env=tuple(sorted({**kind.env(place), **proxied}.items())),
        config_dir=kind.config_dir,
        data_dir=kind.data_dir,
        listen_port=kind.listen_port,
        memory_mb=plan.memory_limit_mb,
        cpus=float(plan.cpu_limit),
        pids=plan.pids_limit,
        folder=str(tenant.folder),
        config_hash=config_hash,
        egress=egress,
    )


def _allocated(number: int | None) -> int:
    if number is None:
        raise ValueError("the tenant has no slot")
    return number
