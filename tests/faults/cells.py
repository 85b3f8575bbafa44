"""The cells of the matrix: every step of every kind of run, at every place where it may be hit, by every fault."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass

from tenants.provisioning import steps
from tenants.provisioning.plans import _STEPS
from tenants.states import RunKind
from tests.architecture import ROOT

HALTED = "reactivate-halted"
"""A reactivation that leaves the tenant down: another list of steps than one that brings it up."""

TUPLES = {str(kind): tuple(step.name for step in of) for kind, of in _STEPS.items()} | {
    HALTED: tuple(step.name for step in steps.HALT)
}
WITH_UNDO = {step.name for of in _STEPS.values() for step in of if step.undo is not None}
# A failure behind the step, so that it is undone.
SPOILERS = {"create": "await_health", "publish_route": "mark_running"}

CHECKED = {
    "reserve_slot", "prepare_folders", "render_config", "ensure_network", "create", "start",
    "publish_route", "withdraw_route", "archive_folder", "stop", "remove",
}  # fmt: skip
"""The steps that look at their lease before they act in the world."""
STALE = {"reconfigure", "resize", "rotate-secrets"}
"""The kinds in whose matrix an older agent is there to be retired: there ``retire_stale`` looks at its lease too."""


@dataclass(frozen=True)
class Cell:
    """``kind`` of run, ``step``, the ``place`` inside it, and the ``fault`` that it meets there."""

    kind: str
    step: str
    place: str
    fault: str

    @property
    def run_kind(self) -> str:
        return RunKind.REACTIVATE if self.kind == HALTED else self.kind

    @property
    def point(self) -> str:
        return f"{self.run_kind}.{self.step}.{self.place}"

    @property
    def spec(self) -> str:
        """What to arm. Only the first hit acts: whoever takes over is a process without the failpoint."""
        action = {"hang": "sleep:600"}.get(self.fault, self.fault)
        spoil = f"{self.run_kind}.{SPOILERS[self.step]}.before=raise," if self.place == "undo" else ""
        return f"{spoil}{self.point}={action}@1"

    def __str__(self) -> str:
        return f"{self.kind}-{self.step}-{self.place}-{self.fault}"


def is_checked(kind: str, step: str) -> bool:
    return step in CHECKED or (step == "retire_stale" and kind in STALE)


def _of_step(kind: str, step: str) -> list[Cell]:
    places = [("before", "raise"), ("before", "kill"), ("before", "hang"), ("before", "down"), ("before", "freeze")]
    if is_checked(kind, step):
        places += [("checked", "kill"), ("checked", "freeze")]
    places += [("writing", "kill"), ("writing", "freeze"), ("after", "kill"), ("after", "lose"), ("after", "raise")]
    if step in WITH_UNDO:
        places += [("undo", "raise"), ("undo", "kill"), ("undo", "down"), ("undo", "freeze")]
    return [Cell(kind, step, *place) for place in places]


def all_cells() -> list[Cell]:
    """Every one, in the order of the kinds; about a thousand."""
    begun = [Cell(kind, "begin", "writing", fault) for kind in TUPLES for fault in ("kill", "freeze")]
    return begun + [cell for kind, names in TUPLES.items() for step in names for cell in _of_step(kind, step)]


def seed() -> str:
    """What the choice follows from: ``ZC_SEED``, else the commit, so that each commit plays other cells."""
    given = os.environ.get("ZC_SEED", "")
    if given:
        return given
    told = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "none"


def pairs(cell: Cell) -> set[tuple[str, ...]]:
    """A step's places and faults belong together: each step meets each of them, and so does each kind."""
    hit = (cell.place, cell.fault)
    return {("kind, step", cell.kind, cell.step), ("kind, hit", cell.kind, *hit), ("step, hit", cell.step, *hit)}


def chosen(cells: list[Cell], by: str) -> list[Cell]:
    """Cells in which every pair is played that is played in all of them; which ones, follows from the seed ``by``."""
    shuffled = random.Random(by).sample(cells, len(cells))
    met: set[tuple[str, ...]] = set()
    taken: set[Cell] = set()
    for at_least in (3, 2, 1):  # pairs that a cell is the first to meet
        for cell in shuffled:
            if len(pairs(cell) - met) >= at_least:
                taken.add(cell)
                met |= pairs(cell)
    return [cell for cell in cells if cell in taken]
