"""Leases whose holder is dead, by the kernel's word: nobody needs to wait until they run out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from django.db.models.functions import Now

from tenants.models import Run
from tenants.states import RunStatus


def owner(tag: str) -> str:
    """What a worker of this process writes on a lease; ``tag`` tells its leases apart."""
    return f"{_host()}:{os.getpid()}:{tag}"


def free_of_dead() -> int:
    """Free the runs whose worker was a process of this host that is gone; returns how many. Where another process has
    its pid by now, and for workers elsewhere, the lease runs out as before. A worker that lives all the same, in
    another container with this host's name, is overtaken like any: its epoch is no longer the row's."""
    held = Run.objects.filter(status=RunStatus.RUNNING, lease_until__gt=Now())
    dead = [(pk, name) for pk, name in held.values_list("pk", "lease_owner") if _is_dead(name)]
    return sum(Run.objects.filter(pk=pk, lease_owner=name).update(lease_until=Now()) for pk, name in dead)


def _is_dead(name: str) -> bool:
    host, _, rest = name.rpartition(":")[0].rpartition(":")
    return host == _host() and rest.isdigit() and not Path("/proc", rest).exists()


def _host() -> str:
    return socket.gethostname()[:40]
