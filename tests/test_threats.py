"""The catalogue of threats: each item that concerns who may do what, and what the door bears, is named by a test.

A test names its items first: ``test_k1_k2_forwarding_headers...``. Group R has the same rule in ``tests.faults``.
"""

from __future__ import annotations

import re

import pytest

from tests.architecture import ROOT

ITEMS = {"a": 16, "b": 12, "c": 14, "d": 12, "k": 13, "m": 10}
"""How many items a group has: logins, sessions and tokens, roles, names and routes, requests, resources."""


def named(text):
    """The items that stand in the names of tests."""
    found = re.findall(r"^ *(?:async )?def test_((?:[a-z][0-9]+_)+)", text, re.MULTILINE)
    return {item for items in found for item in items.split("_") if item}


@pytest.mark.parametrize("group", ITEMS)
def test_every_item_is_named_by_a_test(group):
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {f"{group}{number}" for number in range(1, ITEMS[group] + 1)} - named(text) == set()


def test_what_names_an_item():
    text = "def test_a1_b22_x():\n    async def test_k3_y(self):\ndef test_ab1():\ndef a9_():\n# test_c1_"
    assert named(text) == {"a1", "b22", "k3"}
