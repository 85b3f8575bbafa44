"""Every failpoint of the product has a cell: found by reading the source and the tuples of steps, not by a list."""

from __future__ import annotations

import ast
import re

import pytest

from tenants.provisioning.plans import _STEPS
from tests.architecture import ROOT, product_files
from tests.faults.cells import CHECKED, TUPLES, WITH_UNDO, all_cells, is_checked
from tests.vault.test_rotation import POINTS

REMOVAL = "vault.remove.row"
PLACES = {"before", "checked", "writing", "after", "undo"}
# What each place must be hit by, at every step that has it.
FAULTS = {
    "before": {"raise", "kill", "hang", "down", "freeze"},
    "checked": {"kill", "freeze"},
    "writing": {"kill", "freeze"},
    "after": {"raise", "kill", "lose"},
    "undo": {"raise", "kill", "down", "freeze"},
}


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names of the failpoints in the source: those that are spelled out, and the last words of composed ones."""
    plain, places = set(), set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint"):
            continue
        name = node.args[0]
        if isinstance(name, ast.Constant):
            plain.add(name.value)
        else:
            assert isinstance(name, ast.JoinedStr) and isinstance(name.values[-1], ast.Constant), ast.dump(name)
            places.add(name.values[-1].value.lstrip("."))
    return plain, places


def in_product() -> tuple[set[str], set[str]]:
    found = [names_in(path.read_text()) for path in product_files() if path.name != "failpoints.py"]
    return set().union(*(plain for plain, _ in found)), set().union(*(places for _, places in found))


def killed_elsewhere() -> set[str]:
    """What the tests that kill at failpoints name, outside of this folder: ``name``, ``name@3`` or ``name=kill``."""
    named: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        source = path.read_text()
        if "=kill" in source and path.parent.name != "faults":
            nodes = ast.walk(ast.parse(source))
            texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            named |= {re.split("[@=]", text, maxsplit=1)[0] for text in texts}
    return named


def without_cell(plain: set[str], places: set[str]) -> list[str]:
    """Failpoints at which nothing is killed, and steps at which a place is left out."""
    armed = {point.partition("@")[0] for point in (*POINTS, REMOVAL)} | killed_elsewhere()
    missing = sorted(plain - armed) + sorted(places - PLACES)
    there = {(cell.kind, cell.step, cell.place, cell.fault) for cell in all_cells()}
    for kind, steps in TUPLES.items():
        for step in steps:
            for place in places & PLACES:
                if (place == "checked" and not is_checked(kind, step)) or (place == "undo" and step not in WITH_UNDO):
                    continue
                lacking = sorted(f for f in FAULTS[place] if (kind, step, place, f) not in there)
                missing += [f"{kind}.{step}.{place} by {fault}" for fault in lacking]
    return missing


def test_every_failpoint_has_a_cell():
    plain, places = in_product()
    assert places == PLACES
    assert len(plain) > 10
    assert without_cell(plain, places) == []


def test_the_removal_of_a_key_is_killed_by_the_vaults_own_test():
    assert f'"{REMOVAL}=kill"' in (ROOT / "tests/vault/test_rotation.py").read_text()


def test_every_kind_of_run_is_in_the_matrix():
    assert {cell.run_kind for cell in all_cells()} == {str(kind) for kind in _STEPS}


def test_a_failpoint_without_a_cell_is_seen(monkeypatch):
    plain, places = names_in('failpoint("new.place")\nfailpoint(f"{kind}.{step}.sideways")\nother("x")')
    assert (plain, places) == ({"new.place"}, {"sideways"})
    assert without_cell(plain, places) == ["new.place", "sideways"]
    monkeypatch.setitem(TUPLES, "provision", (*TUPLES["provision"], "new_step"))
    monkeypatch.setattr("tests.faults.test_coverage.all_cells", list)
    assert "provision.new_step.before by kill" in without_cell(set(), PLACES)


def _reached(name, functions):
    """The code of a function, and of those in the same file that it calls or hands on."""
    found, waiting = {}, [name]
    while waiting:
        known = waiting.pop()
        if known not in found:
            found[known] = list(ast.walk(functions[known]))
            waiting += [node.id for node in found[known] if isinstance(node, ast.Name) and node.id in functions]
    return [node for nodes in found.values() for node in nodes]


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_the_steps_that_look_at_their_lease_are_the_ones_that_do(name):
    """``CHECKED`` against the source: a step that calls ``check``, itself or through what it calls, is named there."""
    source = (ROOT / "tenants/provisioning/steps.py").read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    calls = [ast.unparse(node) for node in _reached(name, functions) if isinstance(node, ast.Call)]
    assert "ctx.check()" in calls
