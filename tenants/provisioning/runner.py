"""The step runner. It knows runs, steps and leases, and nothing of tenants.

A run is claimed by lease; a step's result is stored before the next begins; every write names the epoch of the
lease, so a worker that was overtaken can't write. A step that must wait raises ``Park`` and gives the worker
back. A step that fails for good is undone together with those before it, in reverse, by whoever holds the run.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import OperationalError, connection
from django.db.models import F
from django.db.models.functions import Now

from tenants.models import Run, StepRecord
from tenants.provisioning import leases
from tenants.provisioning import procedure as procedures
from tenants.provisioning.procedure import ERROR_CAP, Context, LeaseLost, Park, Procedure, Rewind, Step
from tenants.provisioning.undo import undo
from tenants.states import Phase, Reason, RunStatus, StepStatus
from zcplatform.lib import claims, clock
from zcplatform.lib.errors import DependencyDown, Misconfigured, RunFailed, ZCError
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.redact import handling, in_hand, scrub

log = logging.getLogger(__name__)

RENEW_S = 8.0
RETRY_S = 0.5
MAX_BACKOFF_S = 60.0
MAX_REWINDS = 5
MAX_INTERRUPTIONS = 5


def execute(run_id: int, procedure: Procedure) -> bool:
    """Claim the run and drive it as far as it goes now. False when somebody else has it or it is not due."""
    owner = leases.owner(uuid.uuid4().hex[:8])
    before = Run.objects.filter(pk=run_id).values_list("status", flat=True).first()
    epoch = claims.claim(
        Run.objects.claimable(),
        pk=run_id,
        owner=owner,
        seconds=procedures.LEASE_S,
        status=RunStatus.RUNNING,
        next_attempt_at=None,
    )
    if epoch is None:
        return False
    run = Run.objects.get(pk=run_id)
    ctx = Context(run=run, epoch=epoch, subject=None)
    try:
        with handling(), _renewing(ctx):
            try:
                ctx.subject = procedure.subject(run)
                _begin(ctx, procedure, interrupted=before == RunStatus.RUNNING)
                _drive(ctx, procedure)
            except OperationalError as error:
                _hand_back(ctx, procedure, error)
    except LeaseLost:
        log.warning("run overtaken", extra={"run": str(run.public_id), "epoch": epoch})
        # Whoever cancelled us waits for this before touching what we may still have been touching.
        Run.objects.filter(pk=run_id, lease_owner=owner).exclude(status=RunStatus.RUNNING).update(lease_until=None)
    return True


def backoff(waits: int) -> float:
    """Seconds until the next try after ``waits`` waits: 1, 2, 4, ... 60."""
    return min(MAX_BACKOFF_S, 2.0 ** min(waits, 10))


@contextmanager
def _renewing(ctx: Context) -> Iterator[None]:
    """Renew the lease in the background while a long step (a pull, say) works."""
    done = threading.Event()

    def renew() -> None:
        try:
            while not done.wait(RENEW_S):
                try:
                    if not claims.renew(ctx.held, seconds=procedures.LEASE_S):
                        return
                except OperationalError:
                    log.warning("lease not renewed, trying again", extra={"run": str(ctx.run.public_id)})
        finally:
            connection.close()

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _hand_back(ctx: Context, procedure: Procedure, error: OperationalError) -> None:
    """The database failed where an outcome was to be written. Left as it is, the run would look like that of a worker
    that died; so try to park it for as long as its lease keeps others away."""
    until = time.monotonic() + procedures.LEASE_S
    while True:
        try:
            # What a transaction that was rolled back left in memory is not so.
            ctx.run.refresh_from_db()
            ctx.subject = procedure.subject(ctx.run)
            return _park_for(ctx, procedure, error)
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_S)


def _begin(ctx: Context, procedure: Procedure, *, interrupted: bool) -> None:
    if ctx.run.started_at is not None and not interrupted:
        return
    with ctx.writing():
        if ctx.run.started_at is None:
            ctx.update(started_at=clock.now())
            procedure.on_start(ctx, interrupted=False)
        if interrupted:
            ctx.update(interruptions=ctx.run.interruptions + 1)
            procedure.on_start(ctx, interrupted=True)


def _drive(ctx: Context, procedure: Procedure) -> None:
    steps = procedure.steps(ctx.run)
    records = {record.position: record for record in ctx.run.steps.all()}
    ctx.results = {r.name: r.result for r in records.values() if r.status == StepStatus.DONE}
    if ctx.run.phase == Phase.DO:
        try:
            _refuse_a_killer(ctx)
            _do_all(ctx, steps, records)
        except Park as wait:
            return _park(ctx, procedure, wait.reason, wait.detail, wait.after_s)
        except LeaseLost:
            raise
        except (DependencyDown, OperationalError) as error:
            return _park_for(ctx, procedure, error)
        except Exception as error:
            _note_failure(ctx, error)
        else:
            return _succeed(ctx, procedure)
    try:
        undo(ctx, steps, procedure)
    except (DependencyDown, OperationalError) as error:
        return _park_for(ctx, procedure, error)
    return _fail(ctx, procedure)


def _refuse_a_killer(ctx: Context) -> None:
    """A step that takes its worker down with it must not be handed to one worker after the other for ever."""
    if ctx.run.interruptions > MAX_INTERRUPTIONS:
        times = ctx.run.interruptions
        raise RunFailed(f"The worker died {times} times while doing this.", type=Reason.INTERNAL_ERROR)


def _do_all(ctx: Context, steps: tuple[Step, ...], records: dict[int, StepRecord]) -> None:
    position = 0
    while position < len(steps):
        step, record = steps[position], records.get(position)
        if record is None or record.status != StepStatus.DONE:
            try:
                records[position] = _do(ctx, step, position, record)
            except Rewind as rewind:
                position = _rewind(ctx, steps, records, rewind)
                continue
        position += 1


def _do(ctx: Context, step: Step, position: int, record: StepRecord | None) -> StepRecord:
    ctx.record = record = _open_record(ctx, step, position, record)
    try:
        failpoint(f"{ctx.run.kind}.{step.name}.before")
        result = step.do(ctx) or {}
        failpoint(f"{ctx.run.kind}.{step.name}.after")
    except (Park, DependencyDown, OperationalError):
        ctx.store(record, status=StepStatus.WAITING)
        raise
    record.status, record.result, record.error = StepStatus.DONE, result, ""
    record.finished_at, ctx.unsaved = clock.now(), record
    ctx.results[step.name] = result
    return record


def _open_record(ctx: Context, step: Step, position: int, record: StepRecord | None) -> StepRecord:
    if record is None:
        record = StepRecord(run=ctx.run, position=position, name=step.name, started_at=clock.now())
    record.status, record.attempts = StepStatus.RUNNING, record.attempts + 1
    with ctx.writing():
        record.save()
    return record


def _rewind(ctx: Context, steps: tuple[Step, ...], records: dict[int, StepRecord], rewind: Rewind) -> int:
    """Forget the steps from ``rewind.to`` on, and go on from there."""
    target = next(i for i, step in enumerate(steps) if step.name == rewind.to)
    if ctx.run.rewinds >= MAX_REWINDS:
        raise rewind.cause
    with ctx.writing():
        ctx.update(rewinds=ctx.run.rewinds + 1)
        for position in [p for p in records if p > target]:
            records.pop(position).delete()
        StepRecord.objects.filter(run=ctx.run, position__gt=target).delete()
        records[target].status = StepStatus.WAITING
        records[target].save()
    ctx.results = {r.name: r.result for r in records.values() if r.status == StepStatus.DONE}
    return target


def _note_failure(ctx: Context, error: Exception) -> None:
    """The first error is the one that surfaces: it is stored before anything is undone."""
    if isinstance(error, ZCError):
        fallback = Reason.MISCONFIGURED if isinstance(error, Misconfigured) else Reason.INTERNAL_ERROR
        reason = error.type if error.type in Reason.values else fallback
        text = scrub(error.message, in_hand())
    else:
        log.exception("step failed with a bug", extra={"run": str(ctx.run.public_id)})
        reason, text = Reason.INTERNAL_ERROR, "An error of the platform itself; its log tells more."
    with ctx.writing():
        if ctx.record is not None:
            ctx.record.status, ctx.record.error = StepStatus.FAILED, text[:ERROR_CAP]
            ctx.record.finished_at = clock.now()
            ctx.record.save()
        ctx.update(phase=Phase.UNDO, reason=reason, error=text[:ERROR_CAP])


def _park_for(ctx: Context, procedure: Procedure, error: Exception) -> None:
    """A dependency is down: wait for it, however long it takes."""
    kind = error.type if isinstance(error, ZCError) else ""
    reason = Reason(kind) if kind in Reason.values else Reason.WAITING
    detail = error.message if isinstance(error, ZCError) else "The database is busy."
    _park(ctx, procedure, reason, scrub(detail, in_hand()), backoff(ctx.run.waits))


def _park(ctx: Context, procedure: Procedure, reason: Reason, detail: str, after_s: float) -> None:
    with ctx.writing():
        procedure.on_wait(ctx, reason, detail)
        ctx.update(
            status=RunStatus.PARKED,
            reason=reason if ctx.run.phase == Phase.DO else ctx.run.reason,
            waits=F("waits") + 1,
            next_attempt_at=Now() + timedelta(seconds=after_s),
            enqueued_at=None,
            lease_until=None,
        )


def _succeed(ctx: Context, procedure: Procedure) -> None:
    with ctx.writing():
        procedure.on_success(ctx)
        ctx.update(status=RunStatus.SUCCEEDED, reason="", error="", finished_at=clock.now(), lease_until=None)


def _fail(ctx: Context, procedure: Procedure) -> None:
    with ctx.writing():
        procedure.on_failure(ctx)
        ctx.update(status=RunStatus.FAILED, finished_at=clock.now(), lease_until=None)
