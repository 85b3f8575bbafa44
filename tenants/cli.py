"""What the commands that act on tenants share: finding the tenant, following a run, the same output everywhere.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import threading
import time
import uuid
from argparse import ArgumentParser
from typing import Any

from django.db import connection

from tenants.models import Run, Tenant
from tenants.provisioning.plans import PROCEDURE, step_names
from tenants.provisioning.runner import execute
from tenants.routing import router
from tenants.states import ACTIVE_RUN, RunStatus, StepStatus
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.errors import NotFound

MARKS = {StepStatus.DONE: "✓", StepStatus.FAILED: "✗", StepStatus.UNDONE: "↺"}
GIVE_BACK_S = 6.0
"""How long an interrupted command waits for its worker to give the run back; then the lease has to run out."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a run was followed; the text says what becomes of the run."""


def find_tenant(name: str) -> Tenant:
    """A living tenant by slug or public id; NotFound otherwise."""
    rows = Tenant.objects.alive().select_related("node", "plan", "config")
    public_id = _uuid(name)
    if public_id:
        rows = rows.filter(public_id=public_id)
    else:
        rows = rows.filter(slug=name) if "\0" not in name else rows.none()  # PostgreSQL compares nothing with a NUL
    tenant = rows.first()
    if tenant is None:
        raise NotFound(f"There is no tenant “{name}”.")
    return tenant


def _uuid(text: str) -> uuid.UUID | None:
    """None for a slug: no slug is as long as the shortest spelling of a UUID."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class TenantCommand(PlatformCommand):
    """A command whose first argument is a tenant."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="slug or public id")
        super().add_arguments(parser)

    def run(self, **options: Any) -> bool | None:
        return self.act(find_tenant(options.pop("tenant")), **options)

    def act(self, tenant: Tenant, **options: Any) -> bool | None:
        raise NotImplementedError

    def follow(self, run: Run, *, as_json: bool, **more: Any) -> bool:
        """Drive the run to its end beside the workers, telling its steps; True when it succeeded."""
        run = drive(run, None if as_json else Telling(self.stdout.write))
        tenant = Tenant.objects.select_related("node").get(pk=run.tenant_id)
        if as_json:
            self.print_json(summary(tenant, run) | more)
        elif run.status == RunStatus.SUCCEEDED:
            self.stdout.write(f"{tenant.slug}: {tenant.status}  {_url(tenant)}".rstrip(), self.style.SUCCESS)
        else:
            self.stderr.write(outcome(run), self.style.ERROR)
        return run.status == RunStatus.SUCCEEDED

    def applies_later(self, tenant: Tenant, *, as_json: bool) -> None:
        """Say that a change is stored and waits for the next start."""
        if as_json:
            self.print_json(summary(tenant, None))
        else:
            self.stdout.write(f"{tenant.slug}: stored; it takes effect at the next start")


class Telling:
    """Prints each step once when it ends and once when it is undone, and once what a run waits for."""

    def __init__(self, write: Any) -> None:
        self.write, self.told, self.waiting = write, set[tuple[int, str]](), ""

    def __call__(self, run: Run) -> None:
        for step in run.steps.all():
            if (step.pk, step.status) in self.told or step.status not in MARKS or step.finished_at is None:
                continue
            self.told.add((step.pk, step.status))
            undone = step.status == StepStatus.UNDONE
            took = "  undone" if undone else f"{(step.finished_at - step.started_at).total_seconds():6.1f} s"
            self.write(f"  {MARKS[StepStatus(step.status)]} {step.name:<18}{took}")
        waiting = str(run.get_reason_display()) if run.status == RunStatus.PARKED else ""
        if waiting and waiting != self.waiting:
            self.write(f"  ◐ {waiting}")
        self.waiting = waiting


def drive(run: Run, tell: Telling | None = None, *, timeout_s: float = 900) -> Run:
    """Execute the run here as far as the workers leave it to us, until it ends or ``timeout_s`` is over.

    ``Interrupted`` at Ctrl-C. A run that is not at its end then is the workers' to finish, as after a crash.
    """
    worker = _Worker(run.pk)
    worker.start()
    until = time.monotonic() + timeout_s
    try:
        while not worker.ended.wait(0.2) and time.monotonic() < until:
            if tell:
                tell(Run.objects.get(pk=run.pk))
    except KeyboardInterrupt:
        text = f"Interrupted. The {run.kind} itself goes on with the workers of serve (run {run.public_id})."
        raise Interrupted(text) from None
    finally:
        worker.done.set()
        worker.ended.wait(GIVE_BACK_S)
    run = Run.objects.get(pk=run.pk)
    if tell:
        tell(run)
    return run


class _Worker(threading.Thread):
    """A daemon, because nobody waits for an image to be pulled after Ctrl-C: its lease runs out, others take over.

    It tells its end by an event: a ``join`` that Ctrl-C interrupts takes the thread for ended (CPython 3.11).
    """

    def __init__(self, run_id: int) -> None:
        super().__init__(name="run", daemon=True)
        self.run_id, self.done, self.ended = run_id, threading.Event(), threading.Event()

    def run(self) -> None:
        active = Run.objects.filter(pk=self.run_id, status__in=ACTIVE_RUN)
        try:
            while not self.done.is_set() and active.exists():
                execute(self.run_id, PROCEDURE)
                self.done.wait(0.1)
        finally:
            connection.close()
            self.ended.set()


def outcome(run: Run) -> str:
    """One line about a run that did not succeed."""
    head = f"{run.tenant.slug}: {run.kind} {run.status}"
    if run.is_active:
        waits = f" ({run.get_reason_display()})" if run.reason else ""
        return f"{run.tenant.slug}: {run.kind} is not at its end yet{waits}; it goes on with the workers of serve"
    if run.status == RunStatus.CANCELLED:
        return f"{head}: another request took its place"
    return f"{head}: {run.error or run.get_reason_display()}"


def summary(tenant: Tenant, run: Run | None) -> dict[str, Any]:
    """A tenant and its run as the commands print them with ``--json``; without a run nothing had to be done."""
    return {
        "tenant": tenant.slug,
        "id": str(tenant.public_id),
        "status": tenant.status,
        "reason": tenant.reason,
        "url": _url(tenant),
        "run": _run_summary(run) if run else None,
    }


def _run_summary(run: Run) -> dict[str, Any]:
    steps = {step.name: step for step in run.steps.all()}
    return {
        "id": str(run.public_id),
        "kind": run.kind,
        "status": run.status,
        "error": run.error,
        "steps": [{"name": n, "status": steps[n].status if n in steps else "pending"} for n in step_names(run)],
    }


def _url(tenant: Tenant) -> str:
    return router().url(tenant.slug) if tenant.routed else ""
