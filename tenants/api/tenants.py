"""Tenants: list, create, look, rename, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Status
from pydantic import Field

from accounts import stepup
from accounts.auth import actor_of
from accounts.grants import note
from accounts.writes import idempotent
from tenants import services
from tenants.api.common import accepted, again, changed, find, find_deleted, given
from tenants.api.config import ConfigFields, config_values
from tenants.api.schemas import RUN, ChangeOut, RunOut, TenantOut, Yes
from tenants.configuration import ConfigInput
from tenants.models import Tenant
from tenants.states import ACTIVE_RUN, Desired, Health, Reason
from tenants.states import Status as TenantStatus
from tenants.undelete import undelete
from zcplatform.lib.apidocs import about
from zcplatform.lib.paging import paginate
from zcplatform.lib.redact import scrub
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["tenants"])
ORDERS = {"created_at": "created_at", "name": "name", "slug": "slug"}


class TenantQuery(PageQuery):
    """Which tenants, and how they are sorted."""

    status: TenantStatus | None = None
    plan: Line | None = Field(None, max_length=40)
    agent: Line | None = Field(None, max_length=20)
    search: Line | None = Field(None, max_length=100, description="Part of the name or the slug.")


class FirstChannel(In):
    """A channel to begin with; `values` as for `POST …/channels`."""

    kind: Line = Field(max_length=20)
    values: dict[str, Any]


class TenantIn(In):
    """A new tenant."""

    name: Line = Field(min_length=1, max_length=100)
    slug: Line | None = Field(None, max_length=30, description="Made from the name when it is not given.")
    plan: Line = Field("free", max_length=40)
    agent: Line = Field("demo", max_length=20)
    runtime: Line | None = Field(None, max_length=20)
    config: ConfigFields | None = None
    channels: list[FirstChannel] = Field([], max_length=50)
    owner: Line | None = Field(
        None, max_length=254, description="An e-mail address, which is invited to be owner; super-admins only."
    )
    deploy: Yes = Field(True, description="Whether to bring it up at once.")


class TenantPatch(In):
    """What can be changed of a tenant itself."""

    name: Line = Field(min_length=1, max_length=100)


class TenantMade(Out):
    """A new tenant. `access_token` is shown this once."""

    tenant: TenantOut
    access_token: str = Field(description="For chat at the tenant's address. It can't be had again.")
    run: RunOut | None = None


class TenantChange(ChangeOut):
    """The tenant after a change, and what the change led to."""

    tenant: TenantOut


class StatusOut(Out):
    """What a tenant should be and what was last seen."""

    desired: Desired
    status: TenantStatus
    reason: Reason
    detail: str
    health: Health
    run: RunOut | None = Field(None, description="The run that is under way.")


@router.get("", response=Page[TenantOut], summary="List tenants", openapi_extra=about())
def list_tenants(request: HttpRequest, query: Query[TenantQuery]) -> Any:
    """Those you are a member of; super-admins see all. Sorted by `created_at`, `name` or `slug`. With
    `status=deleted`, those that you were a member of and that can still be brought back; for super-admins all."""
    actor = actor_of(request)
    rows = Tenant.objects.visible_to(actor).for_answer(actor)
    if query.status == TenantStatus.DELETED and not actor.unrestricted:
        rows = Tenant.objects.reached_by(actor).in_trash().for_answer(actor)
    rows = rows.filter(status=query.status) if query.status else rows.exclude(status=TenantStatus.DELETED)
    if query.plan is not None:
        rows = rows.filter(plan__slug=query.plan)
    if query.agent is not None:
        rows = rows.filter(agent_kind=query.agent)
    if query.search:
        rows = rows.filter(Q(name__icontains=query.search) | Q(slug__icontains=query.search))
    return paginate(rows, query, orders=ORDERS, default="-created_at")


@router.post(
    "",
    response={201: TenantMade},
    summary="Create a tenant",
    openapi_extra=about(
        body={"name": "Acme", "plan": "free", "agent": "demo", "deploy": True},
        types={
            403: "forbidden, plan_not_offered, runtime_not_offered, agent_not_offered, signup_limit, plan_limit",
            409: "slug_taken, no_node",
            422: "unknown_plan, plan_too_small, invalid_slug, reserved_slug, unknown_provider, unknown_channel",
        },
    ),
)
@idempotent
def create_tenant(request: HttpRequest, payload: TenantIn, response: HttpResponse) -> Any:
    """Super-admins always; others where the platform lets users sign up, with what is offered there. You
    become its owner, unless a super-admin names another, who is invited."""
    actor = actor_of(request)
    made = services.create_tenant(
        actor=actor,
        name=payload.name,
        plan=payload.plan,
        slug=payload.slug,
        agent=payload.agent,
        runtime=payload.runtime,
        config=_config(payload),
        owner=payload.owner,
        deploy_now=payload.deploy,
    )
    note("ability", "tenant.view", str(made.tenant.public_id))  # which is what the answer tells about
    if made.run is not None:
        response["Location"] = f"/api/runs/{made.run.public_id}"
    shown = {"tenant": again(request, made.tenant), "access_token": made.access_token.reveal(), "run": made.run}
    return Status(201, shown)


@router.get("/{tenant_id}", response=TenantOut, summary="A tenant", openapi_extra=about(404))
def get_tenant(request: HttpRequest, tenant_id: UUID) -> Any:
    """What it should be and what was last seen."""
    return find(request, tenant_id, "tenant.view")


@router.patch(
    "/{tenant_id}",
    response={200: TenantChange, 202: TenantChange},
    summary="Rename a tenant",
    openapi_extra=about(404, body={"name": "Acme Ltd"}, types={409: "run_active, tenant_deleting"}),
)
@idempotent
def rename_tenant(request: HttpRequest, tenant_id: UUID, payload: TenantPatch, response: HttpResponse) -> Any:
    """The slug, and with it the address, stays. The agent may show the name, so a running one is restarted: 202."""
    tenant = find(request, tenant_id, "tenant.update")
    run = services.rename(actor=actor_of(request), tenant=tenant, name=payload.name)
    return changed(response, run, tenant=again(request, tenant))


@router.delete(
    "/{tenant_id}",
    response={202: RunOut},
    summary="Delete a tenant",
    openapi_extra=about(
        404, answer=RUN, status=202, types={403: "forbidden, step_up_required", 409: "tenant_deleted, held"}
    ),
)
@idempotent
def delete_tenant(request: HttpRequest, tenant_id: UUID, response: HttpResponse, purge: bool = False) -> Any:
    """For good. Takes the place of whatever is under way. The folder is kept for some days, or purged at once with
    `purge=true`. Asking again gives the same run. Under the
    operator's hold only a super-admin may."""
    tenant = find(request, tenant_id, "tenant.delete")
    stepup.require(request, "tenant.gone")
    return accepted(response, services.delete(actor=actor_of(request), tenant=tenant, purge=purge))


@router.post(
    "/{tenant_id}/undelete",
    response={202: TenantMade},
    summary="Bring a deleted tenant back",
    openapi_extra=about(
        404, status=202, types={403: "forbidden, signup_limit", 409: "not_deleted, purged, slug_taken"}
    ),
)
@idempotent
def undelete_tenant(request: HttpRequest, tenant_id: UUID, response: HttpResponse) -> Any:
    """While the trash keeps it: with its folder, configuration, secrets and members, stopped, its channels off until
    they are switched on again, its access tokens revoked and a new one in this answer. The slug has a number where
    the old one is taken by now."""
    tenant = find_deleted(request, tenant_id, "tenant.undelete")
    back = undelete(actor=actor_of(request), tenant=tenant)
    response["Location"] = f"/api/runs/{back.run.public_id}"
    shown = {"tenant": again(request, back.tenant), "access_token": back.access_token.reveal(), "run": back.run}
    return Status(202, shown)


@router.get("/{tenant_id}/status", response=StatusOut, summary="A tenant's status", openapi_extra=about(404))
def get_status(request: HttpRequest, tenant_id: UUID) -> Any:
    """The short answer for who polls: status, health, and the run that is under way."""
    tenant = find(request, tenant_id, "tenant.view")
    active = tenant.runs.filter(status__in=ACTIVE_RUN).select_related("tenant").prefetch_related("steps").first()
    names = ("desired", "status", "reason", "health")
    return {**{name: getattr(tenant, name) for name in names}, "detail": scrub(tenant.detail), "run": active}


def _config(payload: TenantIn) -> ConfigInput:
    values = given(payload.config) if payload.config else {}
    return ConfigInput(
        **config_values(values), channels=tuple((channel.kind, channel.values) for channel in payload.channels)
    )
