"""Taking back what a failed run did. It always ends: what can't be taken back is told, and passed over."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import OperationalError

from tenants.models import StepRecord
from tenants.provisioning.procedure import ERROR_CAP, Context, LeaseLost, Procedure, Step
from tenants.states import StepStatus
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.redact import in_hand, scrub

log = logging.getLogger(__name__)

MAX_UNDO_INTERRUPTIONS = 10
"""Deaths of a run's workers, those before the undo included, after which the next undo is taken for the cause."""


def undo(ctx: Context, steps: tuple[Step, ...], procedure: Procedure) -> None:
    """Undo in reverse, the failing step included, and settle.

    An undo that takes its worker down with it must not be handed to one worker after the other for ever: from so many
    deaths on, each further one leaves out one more, in their order, and at last the settling.
    """
    records = sorted(StepRecord.objects.filter(run=ctx.run), key=lambda record: -record.position)
    pending = [(r, act) for r in records if (act := steps[r.position].undo) and r.status != StepStatus.UNDONE]
    left_out = max(0, ctx.run.interruptions - MAX_UNDO_INTERRUPTIONS)
    for record, _ in pending[:left_out]:
        _give_up(ctx, f"undo of {record.name}")
    for record, act in pending[left_out:]:
        _undo(ctx, record, act)
    if left_out > len(pending):
        ctx.untouched = False
        return _give_up(ctx, "settling")
    return _settle(ctx, procedure)


def _undo(ctx: Context, record: StepRecord, act: Callable[[Context], None]) -> None:
    """What an undo can't do for good is noted."""
    try:
        failpoint(f"{ctx.run.kind}.{record.name}.undo")
        ctx.check()
        act(ctx)
    except (LeaseLost, DependencyDown, OperationalError):
        raise
    except Exception as error:
        log.exception("undo failed", extra={"run": str(ctx.run.public_id), "step": record.name})
        record.error = f"{record.error}\nundo: {scrub(str(error), in_hand())}".strip()[:ERROR_CAP]
    ctx.store(record, status=record.status if record.status == StepStatus.FAILED else StepStatus.UNDONE)


def _settle(ctx: Context, procedure: Procedure) -> None:
    """What can't be settled for good is noted and passed over: a run that never ends would help nobody."""
    try:
        procedure.settle(ctx)
    except (LeaseLost, DependencyDown, OperationalError):
        raise
    except Exception as error:
        log.exception("settling failed", extra={"run": str(ctx.run.public_id)})
        ctx.untouched = False
        _add(ctx, f"afterwards: {scrub(str(error), in_hand())}")


def _give_up(ctx: Context, what: str) -> None:
    log.error("given up, its workers died", extra={"run": str(ctx.run.public_id), "what": what})
    told = f"{what}: given up, its workers died in it again and again; what is left needs a look."
    if told not in ctx.run.error:
        _add(ctx, told)


def _add(ctx: Context, text: str) -> None:
    """To the run's error, whose first line stays what it failed with."""
    with ctx.writing():
        ctx.update(error=f"{ctx.run.error}\n{text}"[:ERROR_CAP])
