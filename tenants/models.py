"""The kernel's tables. Integer keys inside, a UUID ``public_id`` outside; facts about one row only.

A secret is never a column here: ``TenantSecret`` points into the vault.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q

from tenants.models_changes import ConfigRevision as ConfigRevision
from tenants.models_changes import Invitation as Invitation
from tenants.querysets import RunQuerySet, TenantQuerySet
from tenants.records import Event as Event
from tenants.records import JobResult, UsageHour, UsageSource  # noqa: F401 - Django looks for models here
from tenants.runtimes.base import Handle
from tenants.states import (
    ACTIVE_RUN,
    SILENT,
    Desired,
    Egress,
    Health,
    HoldKind,
    Phase,
    Reason,
    RunKind,
    RunStatus,
    Status,
    StepStatus,
)
from vault.models import Secret
from zcplatform.lib import clock


class Node(models.Model):
    """A place with capacity. Both ends of the ranges belong to them; ports and uids are unique per node."""

    class State(models.TextChoices):
        ACTIVE = "active"
        DRAINING = "draining"
        DISABLED = "disabled"

    name = models.SlugField(max_length=40, unique=True)
    runtime = models.CharField(max_length=20)
    endpoint = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=64, default="127.0.0.1")
    port_first = models.PositiveIntegerField()
    port_last = models.PositiveIntegerField()
    uid_first = models.PositiveIntegerField()
    uid_last = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.ACTIVE)
    # the lease of the reconcile sweep
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    lease_owner = models.CharField(max_length=80, blank=True, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        db_table = "nodes"

    def __str__(self) -> str:
        return self.name

    @property
    def capacity(self) -> int:
        """How many slots the ranges hold."""
        return min(self.port_last - self.port_first, self.uid_last - self.uid_first) + 1


class QuarantinedPort(models.Model):
    """A port that something which is not ours was found to hold: not handed out again until ``until``."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="quarantined_ports")
    port = models.PositiveIntegerField()
    until = models.DateTimeField()

    class Meta:
        db_table = "quarantined_ports"
        constraints = [models.UniqueConstraint(fields=["node", "port"], name="quarantined_port_once")]

    def __str__(self) -> str:
        return str(self.port)


class Plan(models.Model):
    """Limits as data. MB, cores, per day and per calendar month."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    max_channels = models.PositiveIntegerField()
    max_members = models.PositiveIntegerField()
    max_messages_per_day = models.PositiveIntegerField()
    max_tokens_per_month = models.PositiveBigIntegerField()
    cpu_limit = models.DecimalField(max_digits=6, decimal_places=2)
    memory_limit_mb = models.PositiveIntegerField()
    pids_limit = models.PositiveIntegerField()
    disk_limit_mb = models.PositiveIntegerField()

    class Meta:
        db_table = "plans"
        # Docker reads 0 as "unlimited", so a zero must not get as far as the engine.
        constraints = [
            models.CheckConstraint(
                condition=Q(cpu_limit__gt=0, memory_limit_mb__gt=0, pids_limit__gt=0, disk_limit_mb__gt=0),
                name="plan_limits_positive",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    """One customer's agent: what it should be (``desired``) and what was last seen (``status``, ``health``).

    While a hold is active ``desired`` is ``suspended`` and ``resume_to`` remembers what it returns to.
    ``slot``, ``port`` and ``uid`` are held from the first deploy until the tenant is deleted.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    slug = models.CharField(max_length=30)
    name = models.CharField(max_length=100)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="tenants")
    agent_kind = models.CharField(max_length=20)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="tenants")

    desired = models.CharField(max_length=12, choices=Desired.choices, default=Desired.STOPPED)
    resume_to = models.CharField(max_length=12, choices=Desired.choices, default=Desired.STOPPED)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.DRAFT)
    reason = models.CharField(max_length=32, choices=Reason.choices, default=Reason.NONE, blank=True)
    detail = models.TextField(blank=True)
    health = models.CharField(max_length=8, choices=Health.choices, default=Health.UNKNOWN)
    health_at = models.DateTimeField(null=True, blank=True)

    slot = models.PositiveIntegerField(null=True, blank=True)
    port = models.PositiveIntegerField(null=True, blank=True)
    uid = models.PositiveIntegerField(null=True, blank=True)
    handle = models.JSONField(null=True, blank=True)
    fingerprint = models.CharField(max_length=32, blank=True)
    image = models.CharField(max_length=200, blank=True)  # what the agent was made from, by its id
    config_hash = models.CharField(max_length=32, blank=True)
    routed = models.BooleanField(default=False)

    pairing_serial = models.PositiveIntegerField(default=0, editable=False)  # how many pairing codes are behind us

    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)
    running_since = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True)  # when its folder left the trash for good

    objects = TenantQuerySet.as_manager()

    class Meta:
        db_table = "tenants"
        constraints = [
            models.UniqueConstraint(fields=["slug"], condition=~Q(status="deleted"), name="tenant_slug_alive"),
            models.UniqueConstraint(fields=["node", "slot"], name="tenant_slot_per_node"),
            models.UniqueConstraint(fields=["node", "port"], name="tenant_port_per_node"),
            models.UniqueConstraint(fields=["node", "uid"], name="tenant_uid_per_node"),
        ]
        indexes = [models.Index(fields=["status", "id"], name="tenant_status")]

    def __str__(self) -> str:
        return self.slug

    @property
    def folder(self) -> Path:
        return Path(settings.HOME) / "tenants" / str(self.public_id)

    @property
    def trash(self) -> Path:
        return Path(settings.HOME) / "trash" / str(self.public_id)

    @property
    def seen_as(self) -> str:
        """The status; of one that runs and does not answer, ``SILENT``."""
        silent = self.status == Status.RUNNING and self.health == Health.FAILING
        return SILENT if silent else self.status

    @property
    def agent_handle(self) -> Handle | None:
        return Handle.from_json(self.handle) if self.handle else None


class Hold(models.Model):
    """A reason why a tenant must not run. Active until ``lifted_at``."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="holds")
    kind = models.CharField(max_length=12, choices=HoldKind.choices)
    note = models.CharField(max_length=200, blank=True)
    set_at = models.DateTimeField(default=clock.now)
    set_by = models.CharField(max_length=254)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.CharField(max_length=254, blank=True)

    class Meta:
        db_table = "holds"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "kind"], condition=Q(lifted_at__isnull=True), name="hold_active_once"
            )
        ]

    def __str__(self) -> str:
        return self.kind


class AgentConfig(models.Model):
    """Provider and model of a tenant. The provider's key is a ``TenantSecret`` with the field ``provider_key``.

    ``egress`` is empty where the plan's default holds (``tenants.egress.policy``).
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="config")
    provider_name = models.CharField(max_length=40, blank=True)
    provider_model = models.CharField(max_length=120, blank=True)
    base_url = models.CharField(max_length=300, blank=True)
    extra_config = models.JSONField(default=dict, blank=True)
    egress = models.CharField(max_length=10, choices=Egress.choices, blank=True)
    egress_hosts = models.JSONField(default=list, blank=True)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "tenant_configs"

    def __str__(self) -> str:
        return f"configuration of {self.tenant_id}"


class Channel(models.Model):
    """One way to reach the agent. Secret fields are ``TenantSecret`` rows that name this channel."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="channels")
    channel_type = models.CharField(max_length=20)
    config = models.JSONField(default=dict, db_column="config_json")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        db_table = "channels"

    def __str__(self) -> str:
        return self.channel_type


class TenantSecret(models.Model):
    """The tie between a tenant (or one of its channels) and a secret in the vault."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="secrets")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, null=True, blank=True, related_name="secrets")
    field = models.CharField(max_length=64)
    secret = models.OneToOneField(Secret, on_delete=models.PROTECT, related_name="tie")

    class Meta:
        db_table = "tenant_secrets"
        constraints = [
            models.UniqueConstraint(fields=["channel", "field"], name="secret_per_channel_field"),
            models.UniqueConstraint(
                fields=["tenant", "field"], condition=Q(channel__isnull=True), name="secret_per_tenant_field"
            ),
        ]

    def __str__(self) -> str:
        return self.field


class Member(models.Model):
    """A user with a role in a tenant: a built-in role's name or a custom one's."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=40)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    joined_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "members"
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="member_once")]

    def __str__(self) -> str:
        return f"{self.user_id} as {self.role}"


class AccessToken(models.Model):
    """A bearer for the tenant's chat door: 256 random bits, stored as SHA-256, found by its hash alone.

    ``paired`` says that it was exchanged for a pairing code, so that resetting the pairing ends it.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    token_hash = models.CharField(max_length=64, unique=True)
    created_by = models.CharField(max_length=254, blank=True)
    paired = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "access_tokens"

    def __str__(self) -> str:
        return f"{self.prefix}…"


class Run(models.Model):
    """One execution of a list of steps. At most one is active per tenant; ``epoch`` fences an overtaken worker out.

    A cancelled or overtaken run may still have a worker inside: until its lease is given back or runs out, no
    other run of the tenant is claimed.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="runs")
    kind = models.CharField(max_length=16, choices=RunKind.choices)
    status = models.CharField(max_length=12, choices=RunStatus.choices, default=RunStatus.QUEUED)
    phase = models.CharField(max_length=4, choices=Phase.choices, default=Phase.DO)
    params = models.JSONField(default=dict)
    actor = models.CharField(max_length=254)
    request_id = models.CharField(max_length=64, blank=True)

    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=80, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    waits = models.PositiveIntegerField(default=0)
    rewinds = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveIntegerField(default=0)

    reason = models.CharField(max_length=32, choices=Reason.choices, default=Reason.NONE, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        db_table = "runs"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"],
                condition=Q(status__in=[s.value for s in ACTIVE_RUN]),
                name="run_active_once",
            )
        ]
        indexes = [
            models.Index(fields=["status", "next_attempt_at"], name="run_due"),
            models.Index(fields=["tenant", "-id"], name="run_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.public_id}"

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE_RUN


class StepRecord(models.Model):
    """What one step of a run did. ``result`` is stored before the next step begins and never holds a secret."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    status = models.CharField(max_length=8, choices=StepStatus.choices)
    attempts = models.PositiveIntegerField(default=0)
    result = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "run_steps"
        constraints = [models.UniqueConstraint(fields=["run", "position"], name="step_once")]
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name
