"""What passed through the proxy and what did not, by tenant: counters for whoever asks, and a bounded audit trail."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, transaction

from audit.services import Target, record
from tenants.egress.policy import Policy
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.private_files import keep_private

log = logging.getLogger(__name__)
WINDOW_S = 3_600.0
REFUSALS_PER_WINDOW = 20


@dataclass
class Counts:
    """Since the proxy started: connections let through, refused, and failed on the way; bytes out and back."""

    allowed: int = 0
    refused: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0


class Ledger:
    """The counts of every tenant, and which refusals were told already."""

    def __init__(self) -> None:
        self.tenants: dict[str, Counts] = {}
        self._told: dict[str, tuple[float, set[str]]] = {}
        self._failing = False

    def of(self, tenant: str) -> Counts:
        return self.tenants.setdefault(tenant, Counts())

    def is_news(self, tenant: str, target: str) -> bool:
        """True for the first refusal of a target in an hour, for so many targets of a tenant: an agent that tries
        a thousand hosts does not fill the audit."""
        since, told = self._told.get(tenant, (float("-inf"), set[str]()))
        if time.monotonic() - since > WINDOW_S:
            since, told = time.monotonic(), set()
        self._told[tenant] = (since, told)
        if target in told or len(told) >= REFUSALS_PER_WINDOW:
            return False
        told.add(target)
        return True

    def write(self) -> None:
        """Leave the counters where other processes find them. Where that can't be done the log says so, once: no
        connection is worth less than its count."""
        rows = {tenant: asdict(counts) for tenant, counts in self.tenants.items()}
        try:
            keep_private(stats_file(), json.dumps(rows, sort_keys=True).encode())
        except OSError as error:
            if not self._failing:
                log.warning("the proxy's counters can't be written", extra={"error": str(error)})
            self._failing = True
        else:
            self._failing = False


def stats_file() -> Path:
    return Path(settings.HOME) / "run" / "egress.json"


def read() -> dict[str, dict[str, Any]]:
    """The counters that the proxy wrote last, by the tenant's public id; empty when it never ran."""
    try:
        found = json.loads(stats_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def audit_refusal(policy: Policy, host: str, port: int, why: str) -> None:
    """One row about a refused connection. Blocking: not for the proxy's loop itself."""
    close_old_connections()
    log.warning("egress refused", extra={"tenant": policy.slug, "host": host, "port": port, "why": why})
    with transaction.atomic():
        record(
            "egress.refused",
            actor=SYSTEM,
            target=Target("tenant", policy.tenant, policy.slug),
            tenant=policy.tenant,
            detail={"host": host, "port": port, "why": why},
            outcome="denied",
        )
