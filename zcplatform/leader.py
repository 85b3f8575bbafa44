"""Who runs the workers of a database: one home of one host at a time, however many have its address and its keys.

The lock of a home keeps a second ``serve`` from the same folder. It tells nothing of a copy of the home, or of the
host, that speaks to the same database: each of the two would find the other's agents absent and make
them a second time.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from monitoring.models import Leader
from zcplatform.lib import claims
from zcplatform.lib.errors import Misconfigured

NAME = "workers"
LEASE_S = 30.0
RENEW_EVERY_S = 5.0
LOOK_EVERY_S = 0.5
log = logging.getLogger(__name__)


class Lead:
    """The lease on the workers of the database. ``take`` it with the home's own lock in hand, then ``renew`` it."""

    def __init__(self) -> None:
        self.owner, self.epoch, self.lost = _owner(), 0, False

    def take(self, say: Callable[[str], None]) -> None:
        """Take the lease, after waiting for one that nobody renews any more: ``LEASE_S`` at most. Misconfigured
        ``database_served`` when somebody does renew it."""
        Leader.objects.get_or_create(name=NAME)
        # The home's lock is ours, so whoever had this lease under our name is dead.
        Leader.objects.filter(name=NAME, lease_owner=self.owner).update(lease_until=None)
        seen = None
        while not self._claim():
            row = Leader.objects.get(name=NAME)
            if seen is None:
                say(f"waiting for the lease of {row.lease_owner} on this database: {LEASE_S:.0f} s at most")
            elif row.lease_until != seen:
                message = f"serve already runs the workers of this database ({row.lease_owner}). Stop it there first."
                raise Misconfigured(message, type="database_served")
            seen = row.lease_until
            time.sleep(LOOK_EVERY_S)

    def _claim(self) -> bool:
        row = Leader.objects.get(name=NAME)
        self.epoch = claims.claim(Leader.objects.all(), pk=row.pk, owner=self.owner, seconds=LEASE_S) or 0
        return self.epoch > 0

    def renew(self) -> None:
        """Keep the lease. When somebody has taken it meanwhile, this whole process is asked to end."""
        row = Leader.objects.get(name=NAME)
        held = claims.held(Leader.objects.all(), pk=row.pk, epoch=self.epoch)
        if self.lost or claims.renew(held, seconds=LEASE_S):
            return
        self.lost = True
        log.error("the workers of this database are run by %s now; ending", row.lease_owner)
        os.kill(os.getpid(), signal.SIGTERM)

    def give_back(self) -> None:
        """So that nobody has to wait for its end; never raises what the database raises."""
        try:
            Leader.objects.filter(name=NAME, epoch=self.epoch).update(lease_until=None)
        except DatabaseError:
            log.warning("the lease on the workers is not given back; it runs out in %.0f s", LEASE_S)


def _owner() -> str:
    """The host and the home. A copied host has the same name, but was not booted in the same moment."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{socket.gethostname()[:60]}/{boot}:{str(settings.HOME)[-120:]}"
