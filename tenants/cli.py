"""What the commands that act on tenants share: finding the tenant, following a run, the same output everywhere.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from tenants.models import Run, Tenant
from tenants.provisioning.plans import PROCEDURE, step_names
from tenants.provisioning.runner import execute
from tenants.routing import router
from tenants.states import RunStatus, StepStatus
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import NotFound, ZCError

MARKS = {StepStatus.DONE: "✓", StepStatus.FAILED: "✗", StepStatus.UNDONE: "↺"}


def find_tenant(name: str) -> Tenant:
    """A living tenant by slug or public id; NotFound otherwise."""
    rows = Tenant.objects.alive().select_related("node", "plan", "config")
    tenant = rows.filter(slug=name).first()
    if tenant is None and len(name) == 36:
        tenant = next((t for t in rows.iterator() if str(t.public_id) == name), None)
    if tenant is None:
        raise NotFound(f"There is no tenant “{name}”.")
    return tenant


class PlatformCommand(BaseCommand):
    """Maps the platform's errors to one line on stderr and an exit code, and prints ``--json``."""

    actor = OPERATOR

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ok = self.run(**options)
        except ZCError as error:
            if options.get("json"):
                self.print_json({"error": {"type": error.type, "message": error.message, "details": error.details}})
                sys.exit(1)
            raise CommandError(error.message, returncode=1) from error
        if ok is False:
            sys.exit(1)

    def run(self, **options: Any) -> bool | None:
        """Do it; False means that it was tried and failed."""
        raise NotImplementedError

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str))

    def confirm(self, question: str, answer: str, *, yes: bool) -> None:
        """Ask for ``answer`` to be typed, unless ``--yes``; CommandError when it is not."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise CommandError("This asks for a confirmation; use --yes where nobody can answer.", returncode=2)
        self.stdout.write(question)
        if input("> ").strip() != answer:
            raise CommandError("Not confirmed; nothing was changed.", returncode=1)


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
            self.print_json(summary(run, tenant) | more)
        elif run.status == RunStatus.SUCCEEDED:
            self.stdout.write(self.style.SUCCESS(f"{tenant.slug}: {tenant.status}  {_url(tenant)}".rstrip()))
        else:
            self.stderr.write(self.style.ERROR(f"{tenant.slug}: {run.kind} {run.status}: {run.error or run.reason}"))
        return run.status == RunStatus.SUCCEEDED

    def applies_later(self, tenant: Tenant, *, as_json: bool) -> None:
        """Say that a change is stored and waits for the next start."""
        if as_json:
            self.print_json({"tenant": tenant.slug, "status": tenant.status, "run": None})
        else:
            self.stdout.write(f"{tenant.slug}: stored; it takes effect at the next start")


class Telling:
    """Prints each step once when it ends, and once what a run waits for."""

    def __init__(self, write: Any) -> None:
        self.write, self.told, self.waiting = write, set[int](), ""

    def __call__(self, run: Run) -> None:
        for step in run.steps.all():
            if step.pk in self.told or step.status not in MARKS or step.finished_at is None:
                continue
            self.told.add(step.pk)
            seconds = (step.finished_at - step.started_at).total_seconds()
            self.write(f"  {MARKS[StepStatus(step.status)]} {step.name:<18}{seconds:6.1f} s")
        waiting = f"{run.get_reason_display()}" if run.status == RunStatus.PARKED else ""
        if waiting and waiting != self.waiting:
            self.write(f"  ◐ {waiting}")
        self.waiting = waiting


def drive(run: Run, tell: Telling | None = None, *, timeout_s: float = 900) -> Run:
    """Execute the run here as far as the workers leave it to us, until it ends or ``timeout_s`` is over."""
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                execute(run.pk, PROCEDURE)
                run_now = Run.objects.get(pk=run.pk)
                if not run_now.is_active:
                    return
                done.wait(0.1)
        finally:
            connection.close()

    worker = threading.Thread(target=work, name="run")
    worker.start()
    until = time.monotonic() + timeout_s
    try:
        while worker.is_alive() and time.monotonic() < until:
            worker.join(0.2)
            if tell:
                tell(Run.objects.get(pk=run.pk))
    finally:
        done.set()
    worker.join()
    return Run.objects.get(pk=run.pk)


def summary(run: Run, tenant: Tenant) -> dict[str, Any]:
    """A run and its tenant as the commands print them with ``--json``."""
    steps = {step.name: step for step in run.steps.all()}
    return {
        "tenant": tenant.slug,
        "id": str(tenant.public_id),
        "status": tenant.status,
        "reason": tenant.reason,
        "url": _url(tenant),
        "run": {
            "id": str(run.public_id),
            "kind": run.kind,
            "status": run.status,
            "error": run.error,
            "steps": [{"name": n, "status": steps[n].status if n in steps else "pending"} for n in step_names(run)],
        },
    }


def _url(tenant: Tenant) -> str:
    return router().url(tenant.slug) if tenant.routed else ""
