"""The door to the queue. It carries only "do run N": a task that is lost or doubled changes nothing."""

from __future__ import annotations

from django.db.models.functions import Now
from django_q.tasks import async_task

from tenants.models import Run


def enqueue(run_id: int) -> None:
    """Ask a worker of the ``runs`` cluster to execute the run. Call it on commit."""
    Run.objects.filter(pk=run_id).update(enqueued_at=Now())
    async_task("tenants.tasks.execute_run", run_id, cluster="runs", task_name=f"run {run_id}")
