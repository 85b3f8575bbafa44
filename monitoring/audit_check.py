"""Once a day the audit's whole chain is checked, and a row says how that ended: an alert looks at it."""

from __future__ import annotations

from audit.services import verify_chain
from backups.results import note
from zcplatform.lib.words import count

JOB = "audit-verify"


def run() -> bool:
    """Whether the chain holds."""
    verdict = verify_chain()
    fault = verdict.fault
    note(JOB, ok=fault is None, detail=fault.message if fault else count(verdict.count, "row"))
    return fault is None
