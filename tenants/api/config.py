"""What a tenant's agent is told: look, change, preview, history, and a test of the provider."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, StringConstraints

from accounts import rates
from accounts.auth import actor_of
from accounts.writes import idempotent
from tenants import configuration, connections, origins, revisions
from tenants import preview as previews
from tenants import rollback as rollbacks
from tenants.api.common import again, changed, find, given
from tenants.api.masks import mask
from tenants.api.schemas import ChangeOut, Whole
from tenants.configuration import ConfigInput
from tenants.egress.hosts import MAX_HOSTS
from tenants.egress.policy import default_of
from tenants.models import ConfigRevision, Tenant
from zcplatform.lib.apidocs import about
from zcplatform.lib.paging import paginate
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.schemas import In, Line, Out, Page, PageQuery

router = Router(tags=["configuration"])
TESTS = "10/minute"
INVALID = "unknown_provider, invalid_field"
REFUSED = "forbidden, egress_limit"
Host = Annotated[str, StringConstraints(max_length=300)]
CONFLICTS = "run_active, tenant_deleting, egress_unenforced, egress_changed"
EXAMPLE = {"provider": "openai", "model": "gpt-4o", "provider_key": "sk-example"}


class ConfigFields(In):
    """Provider, model and what else the agent is told."""

    provider: Line | None = Field(None, max_length=40, examples=["openai"])
    model: Line | None = Field(None, max_length=120, examples=["gpt-4o"])
    base_url: Line | None = Field(None, max_length=300, description="For providers without an address of their own.")
    provider_key: str | None = Field(
        None, max_length=1_000, description="Stored in the vault and never shown again; an empty text removes it."
    )
    extra: dict[str, Any] | None = Field(None, description="Settings of the agent kind, all of them.")


class ConfigIn(ConfigFields):
    """The same, and what the agent may connect to."""

    egress: Literal["", "open", "allowlist", "gateway"] | None = Field(
        None, description="Every public address, listed hosts, or its model alone; an empty text: as the plan says."
    )
    egress_hosts: list[Host] | None = Field(
        None,
        max_length=MAX_HOSTS,
        description="What `allowlist` lets through beside the model: all of the list. Each perhaps with a port.",
        examples=[["api.example.com", "*.example.org", "db.example.net:5432"]],
    )


class ConfigOut(Out):
    """A tenant's configuration. Secrets are masked."""

    provider: str
    model: str
    base_url: str
    provider_key: str | None = Field(None, description="Masked: at most its last four characters. Null: none.")
    provider_key_hidden: bool = Field(
        description="Whether the key was entered for another address: then it is not used until entered again."
    )
    extra: dict[str, Any]
    egress: str = Field(description="What the agent may connect to; empty: as the plan says.", examples=["allowlist"])
    egress_mode: str = Field(description="The mode that holds: its own, or the plan's.", examples=["allowlist"])
    egress_hosts: list[str] = Field(description="Counts in the mode `allowlist`.", examples=[["api.example.com"]])
    updated_at: datetime


class ConfigChange(ChangeOut):
    """The configuration after a change, and the run that applies it."""

    config: ConfigOut


class FileOut(Out):
    """How one file that the agent reads would change."""

    name: str = Field(examples=["config.toml"])
    change: Literal["added", "removed", "changed"]
    diff: str = Field(description="In the unified format, with stand-ins such as `[provider_key: new]` for secrets.")


class PreviewOut(Out):
    """What a change would change."""

    files: list[FileOut]
    restart: bool = Field(description="Whether the running agent would be restarted.")
    egress: str = Field(description="How what it may connect to would change, as a diff; empty when that stays.")


class RevisionOut(Out):
    """The configuration after one change. `changed` names what differs from the revision before."""

    number: int
    action: str = Field(examples=["config.update"])
    actor: str
    created_at: datetime
    changed: list[str] = Field(examples=[["model"]])
    provider: str
    model: str
    base_url: str
    extra: dict[str, Any]
    egress: str
    egress_hosts: list[str]
    secrets: list[str] = Field(description="Names of the secrets that were there; their values are in no revision.")
    channels: list[dict[str, Any]]


class RollbackIn(In):
    """Where to go back to."""

    revision: Whole = Field(ge=1, le=2**31 - 1)
    provider_key: str | None = Field(
        None, max_length=1_000, description="Needed when the key that was in use then is gone."
    )


class RolledBackOut(ConfigChange):
    """`incomplete` are the ids of channels that lack a secret, which was deleted or entered for another address: they
    are off until it is entered."""

    incomplete: list[UUID]


class TestOut(Out):
    """Whether it worked."""

    ok: bool | None = Field(description="Null where the platform can't tell from here.")
    message: str
    took: str = Field(description="Roughly.", examples=["under 1 s"])


def config_values(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``ConfigInput``."""
    key = values.get("provider_key")
    return values if key is None else {**values, "provider_key": SecretStr(key)}


def shown(tenant: Tenant) -> dict[str, Any]:
    """The configuration as it is now."""
    config = type(tenant.config).objects.get(tenant=tenant)
    key = tenant.secrets.filter(channel=None, field="provider_key").select_related("secret").first()
    return {
        "provider": config.provider_name,
        "model": config.provider_model,
        "base_url": config.base_url,
        "provider_key": mask(key) if key else None,
        "provider_key_hidden": key is not None and key.secret.origin != origins.of_model(config),
        "extra": config.extra_config,
        "egress": config.egress,
        "egress_mode": config.egress or default_of(tenant.plan.slug),
        "egress_hosts": config.egress_hosts,
        "updated_at": config.updated_at,
    }


def _input(payload: Any) -> ConfigInput:
    return ConfigInput(**config_values(given(payload)))


@router.get("/{tenant_id}/config", response=ConfigOut, summary="A tenant's configuration", openapi_extra=about(404))
def get_config(request: HttpRequest, tenant_id: UUID) -> Any:
    """Secrets are masked for everybody."""
    return shown(find(request, tenant_id, "config.view"))


def _change(request: HttpRequest, response: HttpResponse, tenant: Tenant, wanted: ConfigInput) -> Any:
    run = configuration.update(actor=actor_of(request), tenant=tenant, given=wanted)
    return changed(response, run, config=shown(tenant))


@router.patch(
    "/{tenant_id}/config",
    response={200: ConfigChange, 202: ConfigChange},
    summary="Change the configuration",
    openapi_extra=about(404, body=EXAMPLE, types={403: REFUSED, 409: CONFLICTS, 422: INVALID}),
)
@idempotent
def patch_config(request: HttpRequest, tenant_id: UUID, payload: ConfigIn, response: HttpResponse) -> Any:
    """What is not given (or null) stays. A running agent is restarted with it: 202 with the run. A key is used
    with the scheme, host and port that it was entered for and with no other: another address hides it, and the old one
    brings it back.

    `egress` and `egress_hosts` are the owner's to change (`egress.update`), within the plan's default; a wider mode is
    the super-admin's to give. In a mode other than `open` a `base_url` that the agent could not connect to so far is
    the owner's to change too."""
    return _change(request, response, find(request, tenant_id, "config.update"), _input(payload))


@router.put(
    "/{tenant_id}/config",
    response={200: ConfigChange, 202: ConfigChange},
    summary="Replace the configuration",
    openapi_extra=about(404, body=EXAMPLE, types={403: REFUSED, 409: CONFLICTS, 422: INVALID}),
)
@idempotent
def put_config(request: HttpRequest, tenant_id: UUID, payload: ConfigIn, response: HttpResponse) -> Any:
    """What is not given (or null) becomes empty. Only the key, which nobody can read back, stays in use as long as it
    would go to the same place, and `egress` and `egress_hosts` stay. Channels are not part of it."""
    return _change(request, response, find(request, tenant_id, "config.update"), _input(payload).complete())


@router.post(
    "/{tenant_id}/config/preview",
    response=PreviewOut,
    summary="What a change would change",
    openapi_extra=about(
        404,
        body={"model": "gpt-5"},
        types={403: REFUSED, 409: "egress_unenforced", 422: f"{INVALID}, bad_config"},
    ),
)
def preview_config(request: HttpRequest, tenant_id: UUID, payload: ConfigIn) -> Any:
    """The exact difference in the files that the agent reads and in what it may connect to, for a body as for `PATCH
    config`, with its refusals. Nothing is stored."""
    tenant = find(request, tenant_id, "config.update")
    return previews.preview(actor=actor_of(request), tenant=tenant, given=_input(payload))


@router.get(
    "/{tenant_id}/config/revisions",
    response=Page[RevisionOut],
    summary="History of the configuration",
    openapi_extra=about(404),
)
def list_revisions(request: HttpRequest, tenant_id: UUID, query: Query[PageQuery]) -> Any:
    """The last hundred, newest first. Sorted by `number`."""
    rows = find(request, tenant_id, "config.view").revisions.all()
    page = paginate(rows, query, orders={"number": "number"}, default="-number", tie="number")
    return {**page, "items": _revisions(page["items"])}


@router.post(
    "/{tenant_id}/config/rollback",
    response={200: RolledBackOut, 202: RolledBackOut},
    summary="Go back to a revision",
    openapi_extra=about(
        404,
        body={"revision": 3},
        types={403: "forbidden, plan_limit, egress_limit", 409: CONFLICTS, 422: INVALID},
    ),
)
@idempotent
def rollback(request: HttpRequest, tenant_id: UUID, payload: RollbackIn, response: HttpResponse) -> Any:
    """Provider, model, settings, channels and what the agent may connect to, as they were after that change. A
    secret in use that was entered for the same address stays; else the one of that revision comes back, as long as it
    was not deleted. Refused where what it may connect to would change and you may not change that."""
    tenant = find(request, tenant_id, "config.update")
    key = SecretStr(payload.provider_key) if payload.provider_key else None
    done = rollbacks.rollback(actor=actor_of(request), tenant=tenant, number=payload.revision, provider_key=key)
    return changed(response, done.run, config=shown(tenant), incomplete=done.incomplete)


@router.post(
    "/{tenant_id}/provider/test",
    response=TestOut,
    summary="Test the model provider",
    openapi_extra=about(404, body={"model": "gpt-5"}, types={409: "no_provider", 422: INVALID}),
)
def try_provider(request: HttpRequest, tenant_id: UUID, payload: ConfigFields) -> Any:
    """A real, read-only call with the tenant's key: as stored, or with the changes in the body, which are not stored.
    Of an address that you chose it tells no more than whether it worked. At most 10 a minute per tenant."""
    tenant = find(request, tenant_id, "provider.test")
    rates.spend(TESTS, "connection-test", str(tenant.pk))
    return connections.try_provider(actor=actor_of(request), tenant=again(request, tenant), given=_input(payload))


def _revisions(rows: list[ConfigRevision]) -> list[dict[str, Any]]:
    """Each with what it changed; the page's oldest needs the one before it."""
    known = {row.number: row.snapshot for row in rows}
    if rows:
        before = [row.number - 1 for row in rows if row.number - 1 not in known]
        found = ConfigRevision.objects.filter(tenant=rows[0].tenant_id, number__in=before)
        known |= dict(found.values_list("number", "snapshot"))
    return [_revision(row, known.get(row.number - 1, {})) for row in rows]


def _revision(row: ConfigRevision, before: dict[str, Any]) -> dict[str, Any]:
    state = row.snapshot
    names = ("id", "kind", "enabled", "config")
    channels = [
        {**{name: channel[name] for name in names}, "secrets": sorted(channel["secrets"])}
        for channel in state["channels"]
    ]
    told = {name: state[name] for name in ("provider", "model", "base_url", "extra")}
    told |= {"egress": state.get("egress", ""), "egress_hosts": state.get("egress_hosts", [])}
    about_row = {name: getattr(row, name) for name in ("number", "action", "actor", "created_at")}
    changes = revisions.changes(before, state)
    return {**about_row, **told, "secrets": sorted(state["secrets"]), "channels": channels, "changed": changes}
