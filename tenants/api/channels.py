"""The channels of a tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from accounts import rates
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import configuration, connections, origins
from tenants.api.common import changed, find
from tenants.api.config import TESTS, TestOut
from tenants.api.masks import mask
from tenants.api.schemas import ChangeOut, Yes
from tenants.channels import CHANNELS
from tenants.models import Channel, Tenant, TenantSecret
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["channels"])
EXAMPLE = {"kind": "telegram", "values": {"bot_token": "123456789:example", "allow_from": ["dana"]}}


class ChannelOut(Out):
    """A channel. Secrets are masked."""

    id: UUID = Field(alias="public_id")
    kind: str = Field(alias="channel_type", examples=["telegram"])
    enabled: bool
    config: dict[str, Any]
    secrets: dict[str, str] = Field(description="Masked: at most the last four characters.")
    hidden: list[str] = Field(
        description="Secrets that were entered for another address: not used until entered again."
    )
    missing: list[str] = Field(description="Secrets that have to be entered before the channel can be on.")
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def resolve_secrets(channel: Channel) -> dict[str, str]:
        return {tie.field: mask(tie) for tie in channel.secrets.all()}

    @staticmethod
    def resolve_hidden(channel: Channel) -> list[str]:
        origin = origins.of_channel(channel)
        return [tie.field for tie in channel.secrets.all() if tie.secret.origin != origin]

    @staticmethod
    def resolve_missing(channel: Channel) -> list[str]:
        origin = origins.of_channel(channel)
        kept = {tie.field for tie in channel.secrets.all() if tie.secret.origin == origin}
        fields = CHANNELS[channel.channel_type].fields
        return [field.name for field in fields if field.secret and field.required and field.name not in kept]


class ChannelIn(In):
    """A new channel. The fields of `values` depend on the kind."""

    kind: Line = Field(max_length=20, examples=["telegram"])
    values: dict[str, Any]


class ChannelPatch(In):
    """What to change. Secrets that are not given stay; another address hides them, and a channel that needs one is off
    until it is entered again."""

    values: dict[str, Any] = Field({}, description="Only the fields to change; null clears an optional one.")
    enabled: Yes | None = None


class ChannelChange(ChangeOut):
    """The channel after a change, and the run that applies it."""

    channel: ChannelOut


def _rows(tenant: Tenant) -> QuerySet[Channel]:
    ties = TenantSecret.objects.select_related("secret").order_by("field")
    return Channel.objects.filter(tenant=tenant).prefetch_related(Prefetch("secrets", ties))


def _find(request: HttpRequest, tenant_id: UUID, channel_id: UUID, ability: str) -> Channel:
    tenant = find(request, tenant_id, ability)
    channel = _rows(tenant).filter(public_id=channel_id).first()
    if channel is None:
        raise NotFound()
    channel.tenant = tenant
    return channel


@router.get("/{tenant_id}/channels", response=Page[ChannelOut], summary="A tenant's channels", openapi_extra=about(404))
def list_channels(request: HttpRequest, tenant_id: UUID, query: Query[PageQuery]) -> Any:
    """Sorted by `created_at`."""
    rows = _rows(find(request, tenant_id, "channels.view"))
    return paginate(rows, query, orders={"created_at": "created_at"}, default="created_at")


@router.post(
    "/{tenant_id}/channels",
    response={200: ChannelChange, 202: ChannelChange},
    summary="Add a channel",
    openapi_extra=about(
        404,
        body=EXAMPLE,
        types={
            403: "forbidden, plan_limit",
            409: "run_active, tenant_deleting",
            422: "unknown_channel, unsupported_channel, invalid_field",
        },
    ),
)
@idempotent
def add_channel(request: HttpRequest, tenant_id: UUID, payload: ChannelIn, response: HttpResponse) -> Any:
    """Secrets go into the vault. A running agent is restarted with it: 202 with the run."""
    tenant = find(request, tenant_id, "channels.update")
    channel, run = configuration.add_channel(
        actor=actor_of(request), tenant=tenant, kind=payload.kind, values=payload.values
    )
    return changed(response, run, channel=_rows(tenant).get(pk=channel.pk))


@router.get("/{tenant_id}/channels/{channel_id}", response=ChannelOut, summary="A channel", openapi_extra=about(404))
def get_channel(request: HttpRequest, tenant_id: UUID, channel_id: UUID) -> Any:
    """Secrets are masked for everybody."""
    return _find(request, tenant_id, channel_id, "channels.view")


@router.patch(
    "/{tenant_id}/channels/{channel_id}",
    response={200: ChannelChange, 202: ChannelChange},
    summary="Change a channel",
    openapi_extra=about(404, body={"enabled": False}, types={409: "run_active, tenant_deleting", 422: "invalid_field"}),
)
@idempotent
def update_channel(
    request: HttpRequest, tenant_id: UUID, channel_id: UUID, payload: ChannelPatch, response: HttpResponse
) -> Any:
    """Only what is given changes. A secret is used with the address that it was entered for and with no other."""
    channel = _find(request, tenant_id, channel_id, "channels.update")
    run = configuration.update_channel(
        actor=actor_of(request), channel=channel, values=payload.values, enabled=payload.enabled
    )
    return changed(response, run, channel=_rows(channel.tenant).get(pk=channel.pk))


@router.delete(
    "/{tenant_id}/channels/{channel_id}",
    response={200: ChangeOut, 202: ChangeOut},
    summary="Remove a channel",
    openapi_extra=about(404, types={409: "run_active, tenant_deleting"}),
)
@idempotent
def delete_channel(request: HttpRequest, tenant_id: UUID, channel_id: UUID, response: HttpResponse) -> Any:
    """With its secrets."""
    channel = _find(request, tenant_id, channel_id, "channels.update")
    return changed(response, configuration.delete_channel(actor=actor_of(request), channel=channel))


@router.post(
    "/{tenant_id}/channels/{channel_id}/test", response=TestOut, summary="Test a channel", openapi_extra=about(404)
)
def try_channel(request: HttpRequest, tenant_id: UUID, channel_id: UUID) -> Any:
    """Asks the channel's service who we are, where it has such a question; nothing is sent to anybody. At most 10 tests
    a minute per tenant."""
    channel = _find(request, tenant_id, channel_id, "channels.update")
    rates.spend(TESTS, "connection-test", str(channel.tenant_id))
    return connections.try_channel(actor=actor_of(request), channel=channel)
