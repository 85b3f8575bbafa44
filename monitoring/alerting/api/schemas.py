"""What the routes of alerting take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import Field, StrictBool, StrictFloat, StrictInt

from monitoring.alerting import agreements
from monitoring.alerting.message import condition_of
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier, Silence
from monitoring.alerting.notifiers import is_hidden
from zcplatform.lib.schemas import Id, In, Line, Out, PageQuery

SeverityName = Literal["warning", "critical"]
ComparisonName = Literal["gt", "ge", "lt", "le"]
AudienceName = Literal["platform", "tenant", "both"]
Number = StrictInt | StrictFloat


class TenantRef(Out):
    """A tenant, as lists name it."""

    id: UUID
    slug: str


class ScopeQuery(PageQuery):
    """A page, perhaps of one tenant."""

    tenant: Id | None = Field(None, description="Only those of this tenant.")


class AlertQuery(ScopeQuery):
    """A page of alerts."""

    state: Literal["pending", "firing", "resolved"] | None = None


class MetricOut(Out):
    """What a rule can be about."""

    name: str = Field(examples=["tenant_memory_pct"])
    label: str
    unit: str
    scope: Literal["platform", "tenant"]


class RuleIn(In):
    """A new rule. Without `tenant` it is the platform's: for super-admins."""

    tenant: Id | None = None
    name: Line = Field(min_length=1, max_length=120)
    metric: str = Field(max_length=60, description="A name from `GET alerts/metrics`.")
    comparison: ComparisonName = "gt"
    threshold: Number
    hold_s: StrictInt = Field(300, ge=0, description="For how long the condition must hold, in seconds.")
    severity: SeverityName = "warning"
    repeat_s: StrictInt = Field(14_400, ge=0, description="Seconds between repeats, 300 at least; 0: told once.")
    audience: AudienceName | None = Field(None, description="Whom a platform's rule about tenants tells.")
    enabled: StrictBool = True


class RuleChange(In):
    """The fields to change."""

    name: Line | None = Field(None, min_length=1, max_length=120)
    metric: str | None = Field(None, max_length=60)
    comparison: ComparisonName | None = None
    threshold: Number | None = None
    hold_s: StrictInt | None = Field(None, ge=0)
    severity: SeverityName | None = None
    repeat_s: StrictInt | None = Field(None, ge=0)
    audience: AudienceName | None = None
    enabled: StrictBool | None = None


class RuleOut(Out):
    """A rule. `default`: it exists by default and can be disabled, not deleted."""

    id: UUID
    tenant: TenantRef | None
    name: str
    metric: str
    comparison: str
    threshold: float
    hold_s: int
    severity: str
    repeat_s: int
    audience: str
    enabled: bool
    default: bool
    condition: str = Field(description="The condition in words.", examples=["Memory, of the limit > 90 % for 15 min"])
    created_at: datetime


class NotifierIn(In):
    """A new notifier. Without `tenant` it is the platform's: for super-admins."""

    tenant: Id | None = None
    kind: str = Field(max_length=20, examples=["webhook"], description="mail, webhook, slack or telegram.")
    name: Line = Field(min_length=1, max_length=80)
    config: dict[str, Any] = Field(
        description="The kind's fields, see docs/alerts.md; a secret one goes into the vault."
    )
    min_severity: SeverityName = "warning"


class NotifierChange(In):
    """The fields to change; of `config`, those given."""

    name: Line | None = Field(None, min_length=1, max_length=80)
    config: dict[str, Any] | None = None
    min_severity: SeverityName | None = None
    enabled: StrictBool | None = None


class NotifierOut(Out):
    """A notifier, without its secret."""

    id: UUID
    tenant: TenantRef | None
    kind: str
    name: str
    config: dict[str, Any]
    has_secret: bool
    secret_hidden: bool = Field(
        description="Whether it was entered for another address: then the notifier is off until it is entered again."
    )
    recipients: dict[str, Literal["agreed", "waiting", "stopped"]] = Field(
        description="Of the kind `mail`: whether each address agreed to be told. The others are not."
    )
    min_severity: str
    enabled: bool
    created_at: datetime


class NotifierMade(NotifierOut):
    """A new notifier. `secret` is the signing secret that was made for it, in this answer and nowhere else."""

    secret: str | None = None


class DeliveryOut(Out):
    """One message and what became of it."""

    id: UUID
    notifier: UUID
    alert: UUID | None
    notice: Literal["fire", "repeat", "resolve", "test"]
    state: Literal["queued", "sent", "failed"]
    attempts: int
    error: str
    created_at: datetime
    finished_at: datetime | None


class AlertOut(Out):
    """One time that a rule's condition held."""

    id: UUID
    rule: UUID | None
    tenant: TenantRef | None
    name: str
    subject: str = Field(description="Which of several, for people: a slug, a node, a sweep.")
    severity: str
    state: Literal["pending", "firing", "resolved"]
    condition: str
    value: float | None
    unit: str = Field(description="Of `value`.", examples=["%"])
    which: list[str] = Field(description="Where `value` counts tenants: their slugs.")
    since: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    acked_at: datetime | None
    acked_by: str


class SilenceIn(In):
    """Keep quiet about a rule, a tenant, both, or (super-admins) everything."""

    rule: Id | None = None
    tenant: Id | None = None
    until: datetime = Field(description="At most 30 days away.")
    note: Line = ""


class SilenceOut(Out):
    """A silence. `for_tenant_only`: the operator is still told."""

    id: UUID
    rule: UUID | None
    tenant: TenantRef | None
    until: datetime
    note: str
    for_tenant_only: bool
    created_by: str
    created_at: datetime


def rule_out(row: AlertRule) -> dict[str, Any]:
    """``RuleOut`` of a row."""
    plain = _picked(row, RuleOut, "id", "tenant", "default", "condition")
    return {**_head(row), **plain, "default": row.key is not None, "condition": condition_of(row)}


def notifier_out(row: Notifier) -> dict[str, Any]:
    """``NotifierOut`` of a row."""
    plain = _picked(row, NotifierOut, "id", "tenant", "has_secret", "secret_hidden", "recipients")
    secret = {"has_secret": bool(row.secret_id), "secret_hidden": is_hidden(row)}
    return {**_head(row), **plain, **secret, "recipients": agreements.states_of(row)}


def alert_out(row: Alert) -> dict[str, Any]:
    """``AlertOut`` of a row."""
    plain = _picked(row, AlertOut, "id", "tenant", "rule", "subject")
    return {**_head(row), **plain, "rule": row.rule.public_id if row.rule else None, "subject": row.label}


def silence_out(row: Silence) -> dict[str, Any]:
    """``SilenceOut`` of a row."""
    plain = _picked(row, SilenceOut, "id", "tenant", "rule")
    return {**_head(row), **plain, "rule": row.rule.public_id if row.rule else None}


def delivery_out(row: Delivery) -> dict[str, Any]:
    """``DeliveryOut`` of a row."""
    plain = _picked(row, DeliveryOut, "id", "notifier", "alert")
    alert = row.alert.public_id if row.alert else None
    return {"id": row.public_id, "notifier": row.notifier.public_id, "alert": alert, **plain}


def _head(row: Any) -> dict[str, Any]:
    tenant = row.tenant
    return {"id": row.public_id, "tenant": {"id": tenant.public_id, "slug": tenant.slug} if tenant else None}


def _picked(row: Any, schema: type[Schema], *but: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in schema.model_fields if name not in but}
