"""The suite on several workers: none meets another, and what belongs together stays together."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path

import pytest
from django.db import connection

from tests import parallel, slot
from tests.architecture import ROOT
from tests.faults.world import own_database

HOLD = "from tests import slot; print(slot.NUMBER, flush=True); input()"
LOOK = """
import json, os, pytest
from django.conf import settings
from tests import slot

@pytest.mark.parametrize("turn", range(3))
def test_look(turn):
    told = [slot.NUMBER, str(settings.HOME), settings.INSTANCE, settings.DATABASES["default"]["TEST"]["NAME"]]
    with open({out!r}, "a") as file:
        file.write(json.dumps([os.environ["PYTEST_XDIST_WORKER"], __file__, *map(str, told)]) + "\\n")
"""


def part(number, monkeypatch):
    """The names of ``tests/slot.py`` as a process sees them that holds this part."""
    monkeypatch.setenv("ZC_TEST_SLOT", str(number))
    return runpy.run_path(str(ROOT / "tests" / "slot.py"))


def apart(one, other):
    return one[1] < other[0] or other[1] < one[0]


def test_no_two_parts_of_the_machine_touch(monkeypatch):
    parts = [part(number, monkeypatch) for number in range(slot.COUNT)]
    ports = ("ANY", "IN_MEMORY", "PROCESSES", "CONTAINERS")
    ranges = [made[name] for made in parts for name in ports] + [(made["PORT"], made["LISTEN"]) for made in parts]
    assert all(apart(*pair) for pair in combinations(ranges, 2))
    assert max(last for _, last in ranges) < 32_768  # from there on the kernel gives them to whoever asks for any
    uids = [made[name] for made in parts for name in ("UIDS", "OTHER_UIDS")]
    assert all(apart(*pair) for pair in combinations(uids, 2))
    networks = [IPv4Network(made[name]) for made in parts for name in ("NETWORKS", "OTHER_NETWORKS")]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


def test_a_part_is_held_by_one_process_and_free_again_when_that_is_killed(monkeypatch):
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZC_TEST_")} | {
        "PYTHONPATH": str(ROOT)
    }
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        numbers = [int(holder.stdout.readline()) for holder in holders]
        assert len({slot.NUMBER, *numbers}) == 3
        assert not slot.hold(numbers[0])
    finally:
        for holder in holders:
            holder.send_signal(signal.SIGKILL)
            holder.communicate()
    held = [slot.hold(number) for number in numbers]
    assert all(held)
    for one in held:
        one.close()


def test_a_part_in_which_a_killed_run_left_an_agent_is_passed_over():
    assert slot.is_quiet(slot.NUMBER)
    with socket.create_server(("127.0.0.1", slot.PROCESSES[0])):
        assert not slot.is_quiet(slot.NUMBER)
    assert slot.is_quiet(slot.NUMBER)


def test_each_worker_has_a_home_a_database_and_a_part_and_plays_whole_files(pytester, monkeypatch):
    out = pytester.path / "told"
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makeini("[pytest]\nDJANGO_SETTINGS_MODULE = tests.settings\n")
    pytester.makepyfile(**{f"test_{name}": LOOK.format(out=str(out)) for name in "abcd"})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_XDIST_WORKER", "ZC_TEST_WORKER", "ZC_TEST_SLOT", "ZC_TEST_HOME", "ZCPLATFORM_HOME"):
        monkeypatch.delenv(name, raising=False)
    pytester.runpytest_subprocess("-n", "2", "-p", "no:schemathesis").assert_outcomes(passed=12)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    by_worker = {worker: {tuple(row[2:]) for row in rows if row[0] == worker} for worker in ("gw0", "gw1")}
    ((one,), (other,)) = by_worker.values()
    assert all(here != there for here, there in zip(one, other, strict=True))
    assert len({(row[0], row[1]) for row in rows}) == 4, "a file is played by one worker"
    assert not Path(one[1]).parent.exists(), "their homes go with the run"


def test_a_world_of_the_faults_begins_with_a_copy_of_what_was_migrated_once(transactional_db, tmp_path):
    def migrated():
        with connection.cursor() as cursor:
            cursor.execute("SELECT app, name, applied FROM django_migrations ORDER BY id")
            return cursor.fetchall()

    here = migrated()
    with own_database(tmp_path):
        there = migrated()
    assert here == there == migrated()


def test_what_is_named_is_there_and_what_is_dealt_out_shares_nothing():
    for path in {*parallel.COSTLY, *parallel.DEALT_OUT, *parallel.IN_PARTS, *parallel.THE_HOSTS_NETWORK}:
        assert (ROOT / path).is_file(), path
    for path in parallel.DEALT_OUT:
        assert not re.search(r'scope="(module|class)"', (ROOT / path).read_text()), path


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tests/vault/test_a.py::test_a", "tests/vault/test_a.py::Test::test_b[x::y]", True),
        ("tests/vault/test_a.py::test_a", "tests/vault/test_b.py::test_a", False),
        (f"{parallel.DEALT_OUT[0]}::test_a", f"{parallel.DEALT_OUT[0]}::test_b", False),
        (f"{parallel.THE_HOSTS_NETWORK[0]}::test_a", f"{parallel.THE_HOSTS_NETWORK[1]}::test_b", True),
    ],
)
def test_what_goes_to_one_worker(one, other, together):
    assert (parallel.unit(one) == parallel.unit(other)) == together
