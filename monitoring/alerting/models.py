"""Rules, the alerts they raised, who is told, and every message with what became of it."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from monitoring.alerting.machine import Life, Notice, State
from monitoring.alerting.units import with_unit
from tenants.models import Tenant
from vault.models import Secret
from zcplatform.lib import clock


class Severity(models.TextChoices):
    WARNING = "warning"
    CRITICAL = "critical"


class Comparison(models.TextChoices):
    ABOVE = "gt", ">"
    AT_LEAST = "ge", "≥"
    BELOW = "lt", "<"
    AT_MOST = "le", "≤"


class Audience(models.TextChoices):
    """Whom a rule of the platform about tenants tells: the operator, the tenant it is about, or both."""

    PLATFORM = "platform", "the platform's notifiers"
    TENANT = "tenant", "the tenant's notifiers"
    BOTH = "both", "both"


class AlertRule(models.Model):
    """A metric, compared with a threshold for ``hold_s`` seconds. Without a tenant it is the platform's: about the
    platform itself, or about every tenant. ``key`` names one that exists by default; once somebody changed it, no
    later version of the platform does."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    key = models.CharField(max_length=60, unique=True, null=True, blank=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="alert_rules")
    name = models.CharField(max_length=120)
    metric = models.CharField(max_length=60)
    comparison = models.CharField(max_length=2, choices=Comparison.choices, default=Comparison.ABOVE)
    threshold = models.FloatField()
    hold_s = models.PositiveIntegerField("for, seconds", default=300)
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    repeat_s = models.PositiveIntegerField("repeat, seconds", default=4 * 3600, help_text="0: told once")
    audience = models.CharField(max_length=8, choices=Audience.choices, default=Audience.BOTH)
    enabled = models.BooleanField(default=True)
    edited_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        db_table = "alert_rules"
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def is_met_by(self, value: float) -> bool:
        """Whether the rule's condition holds for ``value``."""
        return {
            Comparison.ABOVE: value > self.threshold,
            Comparison.AT_LEAST: value >= self.threshold,
            Comparison.BELOW: value < self.threshold,
            Comparison.AT_MOST: value <= self.threshold,
        }[Comparison(self.comparison)]


class Notifier(models.Model):
    """Where messages go. One without a tenant is the platform's. What must stay secret of it is in the vault."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="notifiers")
    kind = models.CharField(max_length=20)
    name = models.CharField(max_length=80)
    config = models.JSONField(default=dict, blank=True)
    secret = models.OneToOneField(Secret, on_delete=models.PROTECT, null=True, blank=True, related_name="notifier")
    min_severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)
    # the lease of the worker that empties its queue
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    lease_owner = models.CharField(max_length=80, blank=True, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        db_table = "notifiers"
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def wants(self, severity: str) -> bool:
        """Whether messages of this severity are sent here."""
        return self.enabled and (severity == Severity.CRITICAL or self.min_severity == Severity.WARNING)


class Agreement(models.Model):
    """What somebody said to alerts by mail, of one tenant or, without a tenant, of the platform. Nothing but the
    question itself goes to an address that did not agree."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="agreements")
    address = models.EmailField()
    wanted_at = models.DateTimeField(default=clock.now, editable=False)  # last put into a notifier, or told
    asked_at = models.DateTimeField(null=True, blank=True)
    agreed_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "alert_agreements"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "address"], name="agreement_once"),
            models.UniqueConstraint(
                fields=["address"], condition=Q(tenant__isnull=True), name="agreement_once_of_platform"
            ),
        ]
        indexes = [models.Index(fields=["wanted_at"], condition=Q(asked_at=None), name="agreement_unasked")]

    def __str__(self) -> str:
        return self.address


class Alert(models.Model):
    """One time that a rule's condition held. What the rule said then is kept: the row outlives a change of the rule.

    ``subject`` says which of several: a tenant's public id, a node, a sweep; of one rule and subject at most one
    alert is open. ``acked_by`` stops the repeats, not the alert; of a tenant's manager, the tenant's repeats only.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.SET_NULL, null=True, related_name="alerts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, related_name="alerts")
    subject = models.CharField(max_length=120, blank=True)
    label = models.CharField(max_length=120, blank=True)  # the subject, for people
    name = models.CharField(max_length=120)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    value = models.FloatField(null=True)
    unit = models.CharField(max_length=20, blank=True)  # of the value
    which = models.JSONField(default=list, blank=True)  # slugs of the tenants that the value counts
    condition = models.CharField(max_length=200)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    acked_at = models.DateTimeField(null=True, blank=True)
    acked_by = models.CharField(max_length=254, blank=True)
    acked_for_tenant_only = models.BooleanField(default=False)

    class Meta:
        db_table = "alerts"
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=~Q(state=State.RESOLVED), name="alert_open_once"
            )
        ]
        indexes = [
            models.Index(fields=["state", "id"], name="alert_state"),
            models.Index(fields=["tenant", "-id"], name="alert_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"

    def is_acked_for(self, notifier: Notifier) -> bool:
        """Whether this notifier is spared the repeats."""
        return self.acked_at is not None and not (self.acked_for_tenant_only and notifier.tenant_id is None)

    @property
    def measured(self) -> str:
        """The value with its unit; empty when it is not known."""
        return "" if self.value is None else with_unit(self.value, self.unit)

    @property
    def life(self) -> Life:
        return Life(State(self.state), self.since, self.seen_at)


class Silence(models.Model):
    """No messages until ``until``: about one rule, one tenant, or both; with neither, about everything. One that has
    a tenant keeps that tenant's alerts quiet; ``for_tenant_only`` leaves the operator's own messages alone."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, null=True, blank=True, related_name="silences")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="silences")
    for_tenant_only = models.BooleanField(default=False)
    until = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        db_table = "silences"

    def __str__(self) -> str:
        return f"until {clock.in_words(self.until)}"

    def covers(self, alert: Alert, notifier: Notifier) -> bool:
        """Whether this alert is kept from this notifier; the time is the caller's to look at."""
        if self.for_tenant_only and notifier.tenant_id is None:
            return False
        return self.rule_id in (None, alert.rule_id) and self.tenant_id in (None, alert.tenant_id)


class Delivery(models.Model):
    """One message to one notifier: written with the change it tells of, sent by a worker, tried again with longer
    and longer pauses. ``number`` counts the messages of one alert to one notifier, so that none is written twice."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, null=True, related_name="deliveries")
    notifier = models.ForeignKey(Notifier, on_delete=models.CASCADE, related_name="deliveries")
    notice = models.CharField(max_length=8, choices=Notice.choices)
    number = models.PositiveIntegerField(default=1)
    message = models.JSONField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=clock.now)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "alert_deliveries"
        constraints = [models.UniqueConstraint(fields=["alert", "notifier", "number"], name="delivery_once")]
        indexes = [
            models.Index(fields=["state", "next_attempt_at"], name="delivery_due"),
            models.Index(fields=["notifier", "-id"], name="delivery_of_notifier"),
        ]

    def __str__(self) -> str:
        return f"{self.notice} {self.state}"


__all__ = ["Agreement", "Alert", "AlertRule", "Audience", "Comparison", "Delivery", "Notifier", "Severity", "Silence"]
