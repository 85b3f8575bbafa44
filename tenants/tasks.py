"""What the queue calls: ids only, two lines each."""

from __future__ import annotations

from tenants import reconcile, trash
from tenants.models import Run
from tenants.provisioning import leases
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.queue import enqueue


def execute_run(run_id: int) -> bool:
    return execute(run_id, PROCEDURE)


def enqueue_due_runs() -> int:
    """Tell the queue of runs that are due: parked ones whose time has come, and those whose worker died."""
    leases.free_of_dead()
    due = list(Run.objects.due_for_queue().values_list("pk", flat=True)[:200])
    for run_id in due:
        enqueue(run_id)
    return len(due)


def reconcile_sweep() -> int:
    return reconcile.sweep()


def look_at(node_id: int, tenants: list[str], agents: list[str]) -> int:
    return reconcile.look_at(node_id, tenants, agents)


def sync_routes() -> int:
    return len(reconcile.sync_routes())


def purge_trash() -> int:
    return trash.purge_old()
