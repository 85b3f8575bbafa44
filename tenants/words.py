"""A tenant's state in words: what is, why, and what to do about it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from tenants.models import Tenant
from tenants.states import SILENT, Health, Reason, Status
from zcplatform.lib import clock

MINUTE = timedelta(minutes=1)
_HEADLINES = {
    Status.DRAFT: "Not deployed yet",
    Status.DEPLOYING: "Deploying",
    Status.RUNNING: "Running",
    Status.STOPPED: "Stopped",
    Status.SUSPENDED: "Suspended",
    Status.ERROR: "Error",
    Status.DELETING: "Being deleted",
    Status.DELETED: "Deleted",
}
_NEXT_STEPS: dict[str, str] = {
    Reason.WAITING_FOR_ENGINE: "Look whether the container engine runs; the run goes on by itself when it answers.",
    Reason.WAITING_FOR_ROUTER: "Look whether the router runs; the run goes on by itself when it answers.",
    Reason.WAITING_FOR_STORAGE: "Free space on the disk; the run goes on by itself.",
    Reason.NO_CAPACITY: "Delete tenants that are not needed, or add a node.",
    Reason.IMAGE_MISSING: "Build or pull the agent's image on the node, then deploy again.",
    Reason.NETWORK_FAILED: "Look at the engine's networks and the subnet pool, then deploy again.",
    Reason.NAME_CONFLICT: "Rename or remove the container that has the name, then deploy again.",
    Reason.PORT_CONFLICT: "Deploy again: the port is set aside for a while and another one is taken.",
    Reason.FOLDER_FAILED: "Look at the rights and the space below the platform's home, then deploy again.",
    Reason.FOLDER_UNREACHABLE: "Let the tenant's uid pass through the folders above, then deploy again.",
    Reason.VAULT_UNAVAILABLE: "Look at the vault's key file, then deploy again.",
    Reason.BAD_CONFIG: "Correct the configuration, then deploy again.",
    Reason.PLAN_TOO_SMALL: "Resize to a plan with more memory.",
    Reason.UNHEALTHY: "Read the logs, then deploy again.",
    Reason.OOM_KILLED: "Resize to a plan with more memory, or restart.",
    Reason.CRASH_LOOP: "Read the logs, correct the configuration, then deploy again.",
    Reason.INTERNAL_ERROR: "Look for the request id in the platform's log, then deploy again.",
}
_BY_STATUS: dict[str, str] = {
    Status.DRAFT: "Configure it, then deploy it.",
    Status.STOPPED: "Start it when it should run.",
    Status.SUSPENDED: "It runs again when the last hold is lifted.",
    Status.ERROR: "Read the failed run, then deploy again.",
    Status.DELETED: "Nothing runs and nothing is reachable any more.",
}


def headline(tenant: Tenant) -> str:
    """One line: "Running for 3 days", "Error: the agent ran out of memory"."""
    text = _(_HEADLINES[Status(tenant.status)])
    if tenant.status == Status.RUNNING and tenant.running_since:
        text = _("Running for %(span)s") % {"span": _since(tenant.running_since)}
    if tenant.seen_as == SILENT and tenant.health_at:
        return _("Running, and has not answered for %(span)s") % {"span": _since(tenant.health_at)}
    if tenant.status == Status.DELETED and tenant.deleted_at:
        text += f" {ago(tenant.deleted_at)}"
    return f"{text}: {why}" if (why := reason(tenant)) else text


def reason(tenant: Tenant) -> str:
    """Why it is as it is, in words; empty when there is nothing to say."""
    if tenant.reason and tenant.reason != Reason.HELD:
        return _(str(tenant.get_reason_display()))
    return _("its health check fails") if tenant.health == Health.FAILING else ""


def next_step(tenant: Tenant) -> str:
    """What a person could do now; empty when nothing needs doing."""
    text = _NEXT_STEPS.get(tenant.reason) or _BY_STATUS.get(tenant.status, "")
    return _(text) if text else ""


def ago(moment: datetime) -> str:
    """ "3 days ago", "just now"."""
    return _("%(span)s ago") % {"span": _since(moment)} if clock.now() - moment >= MINUTE else _("just now")


def _since(moment: datetime) -> str:
    if clock.now() - moment < MINUTE:
        return _("less than a minute")
    return timesince(moment, clock.now(), depth=1).replace("\xa0", " ")
