"""The words for what a tenant should be, what it was last seen to be, and why; and which change is allowed."""

from __future__ import annotations

from django.db import models


class Desired(models.TextChoices):
    """What the row says should be."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class Status(models.TextChoices):
    """What was last observed."""

    DRAFT = "draft"
    DEPLOYING = "deploying"
    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    ERROR = "error"
    DELETING = "deleting"
    DELETED = "deleted"


SILENT = "not answering"
"""What people are shown in the place of ``running`` where the agent fails its health check."""


class Health(models.TextChoices):
    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"


class HoldKind(models.TextChoices):
    """Why a tenant must not run; each is set and lifted on its own."""

    BILLING = "billing"
    OPERATOR = "operator"
    QUOTA = "quota"


class Egress(models.TextChoices):
    """What a tenant's agent may connect to, from the widest to the narrowest."""

    OPEN = "open", "every public address"
    ALLOWLIST = "allowlist", "the listed hosts and its model"
    GATEWAY = "gateway", "its model alone"


class Reason(models.TextChoices):
    """The one registry of machine-readable reasons beside a status."""

    NONE = "", "—"
    # waiting on something
    WAITING_FOR_ENGINE = "waiting_for_engine", "waiting: the container engine does not answer"
    WAITING_FOR_ROUTER = "route_pending", "waiting: the router does not answer"
    WAITING_FOR_HEALTH = "waiting_for_health", "waiting for the agent to answer"
    WAITING_FOR_STORAGE = "storage_full", "no space left on the disk"
    WAITING = "waiting", "waiting for something the platform depends on"
    # the platform's or the operator's to mend
    NO_CAPACITY = "no_capacity", "no free slot on the node"
    IMAGE_MISSING = "image_missing", "the agent's image is not on the node"
    NETWORK_FAILED = "network_failed", "the tenant network could not be made"
    NAME_CONFLICT = "name_conflict", "a container that is not ours has the name"
    PORT_CONFLICT = "port_conflict", "the port is taken by something else"
    FOLDER_FAILED = "folder_failed", "the tenant's folder could not be prepared"
    FOLDER_UNREACHABLE = "folder_unreachable", "the tenant's uid can't reach its folder or program"
    MISCONFIGURED = "misconfigured", "a setting of the platform has to be mended"
    VAULT_UNAVAILABLE = "vault_unavailable", "a secret could not be opened"
    SPEC_DRIFT = "spec_drift", "what runs differs from what was asked for"
    INTERNAL_ERROR = "internal_error", "an error of the platform itself"
    # the tenant's to mend
    BAD_CONFIG = "bad_config", "the configuration is not acceptable to the agent"
    PLAN_TOO_SMALL = "plan_too_small", "the plan's memory is below what the agent needs"
    # what the agent did
    UNHEALTHY = "unhealthy", "the agent did not become healthy in time"
    OOM_KILLED = "oom_killed", "the agent ran out of memory"
    CRASH_LOOP = "crash_loop", "the agent exits again and again"
    # by decision
    HELD = "held", "held: see the holds"


ALLOWED: dict[Status, frozenset[Status]] = {
    Status.DRAFT: frozenset({Status.DEPLOYING, Status.SUSPENDED, Status.STOPPED, Status.DELETING}),
    Status.DEPLOYING: frozenset({Status.RUNNING, Status.ERROR, Status.STOPPED, Status.SUSPENDED, Status.DELETING}),
    Status.RUNNING: frozenset({Status.DEPLOYING, Status.STOPPED, Status.SUSPENDED, Status.ERROR, Status.DELETING}),
    Status.STOPPED: frozenset({Status.DEPLOYING, Status.SUSPENDED, Status.ERROR, Status.DELETING}),
    Status.SUSPENDED: frozenset({Status.DEPLOYING, Status.STOPPED, Status.ERROR, Status.DELETING}),
    Status.ERROR: frozenset({Status.DEPLOYING, Status.RUNNING, Status.STOPPED, Status.SUSPENDED, Status.DELETING}),
    Status.DELETING: frozenset({Status.DELETED}),
    Status.DELETED: frozenset({Status.STOPPED, Status.SUSPENDED}),  # out of the trash
}


class RunKind(models.TextChoices):
    PROVISION = "provision"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RECONFIGURE = "reconfigure"
    RESIZE = "resize"
    SUSPEND = "suspend"
    REACTIVATE = "reactivate"
    ROTATE_SECRETS = "rotate-secrets"
    DEPROVISION = "deprovision"
    UNDELETE = "undelete"


class RunStatus(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE_RUN = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PARKED)


class Phase(models.TextChoices):
    DO = "do"
    UNDO = "undo"


class StepStatus(models.TextChoices):
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
