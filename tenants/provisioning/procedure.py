"""What a run consists of: its steps, what they get, and how they say that they must wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from tenants.models import Run, StepRecord
from tenants.states import Reason, RunStatus
from zcplatform.lib import claims
from zcplatform.lib.errors import ZCError
from zcplatform.lib.failpoints import failpoint

LEASE_S = 30.0
ERROR_CAP = 4_000


class Park(Exception):
    """Not yet: give the worker back and try this step again after ``after_s`` seconds."""

    def __init__(self, reason: Reason, *, after_s: float, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.after_s, self.detail = reason, after_s, detail


class Rewind(Exception):
    """The steps from ``to`` on have to be done anew; after five times ``cause`` is what the run fails with."""

    def __init__(self, to: str, cause: ZCError) -> None:
        super().__init__(str(cause))
        self.to, self.cause = to, cause


class LeaseLost(Exception):
    """Somebody else holds the run now, or it was cancelled: write nothing more."""


@dataclass
class Context:
    """What a step gets: the run, the thing it is about, and the results of the steps before it."""

    run: Run
    epoch: int
    subject: Any
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    record: StepRecord | None = None
    unsaved: StepRecord | None = None
    """The step that was done last; stored with whatever is written next, which is always before the next begins."""
    untouched: bool = False
    """After a failure: what was there before goes on as it was. Set by the procedure's ``settle``."""

    @cached_property
    def held(self) -> QuerySet[Run]:
        """The run's row while its lease is ours: asked for before every act and write."""
        return claims.held(Run.objects.filter(status=RunStatus.RUNNING), pk=self.run.pk, epoch=self.epoch)

    def check(self) -> None:
        """Called before each side effect outside the database: LeaseLost when the run is no longer ours.

        Only reads: the lease is renewed by every write of the run and by a thread while a step takes long.
        """
        if not claims.holds(self.held):
            raise LeaseLost
        failpoint(f"{self.run.kind}.{self.doing}.checked")

    @property
    def doing(self) -> str:
        """The name of the current step."""
        return self.record.name if self.record else "begin"

    @property
    def attempt(self) -> int:
        """How often the current step was begun, this time included."""
        return self.record.attempts if self.record else 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that only commits while the run is ours."""
        failpoint(f"{self.run.kind}.{self.doing}.writing")
        with transaction.atomic():
            # First of all: on PostgreSQL this locks the run's row until the commit.
            if not claims.renew(self.held, seconds=LEASE_S):
                raise LeaseLost
            if self.unsaved is not None:
                self.unsaved.save()
            yield
        self.unsaved = None

    def store(self, record: StepRecord, **fields: Any) -> None:
        """Write to a step's record, in a transaction of its own."""
        for name, value in fields.items():
            setattr(record, name, value)
        with self.writing():
            record.save()

    def update(self, **fields: Any) -> None:
        """Write to the run; only inside ``writing()``."""
        Run.objects.filter(pk=self.run.pk, epoch=self.epoch).update(**fields)
        for name, value in fields.items():
            if not hasattr(value, "resolve_expression"):
                setattr(self.run, name, value)


@dataclass(frozen=True)
class Step:
    """``do`` is idempotent and returns JSON without secrets; ``undo`` may find nothing, or half, of what it made."""

    name: str
    do: Callable[[Context], dict[str, Any] | None]
    undo: Callable[[Context], None] | None = None


class Procedure:
    """What a kind of run does, and how its outcome shows on the subject. Hooks run inside the transaction that
    changes the run."""

    def steps(self, run: Run) -> tuple[Step, ...]:
        raise NotImplementedError

    def subject(self, run: Run) -> Any:
        raise NotImplementedError

    def settle(self, ctx: Context) -> None:
        """After the undo of a failed run and outside any transaction: look at the world, and close what must not
        stay open. May raise DependencyDown; it is then done again."""

    def on_start(self, ctx: Context, *, interrupted: bool) -> None: ...
    def on_wait(self, ctx: Context, reason: Reason, detail: str) -> None: ...
    def on_success(self, ctx: Context) -> None: ...
    def on_failure(self, ctx: Context) -> None: ...
