"""A hundred steps of the random machine in every slow run of the suite; ``make chaos`` plays thousands."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.machine import play, told
from tests.faults.world import installed, small_disk

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 100


@pytest.fixture(scope="module")
def place(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock(), small_disk(128) as disk, installed("process", "docker", disk=disk) as world:
        yield world


def test_whatever_a_hundred_random_steps_break_heals(place, capsys):
    """``ZC_SEED`` plays a seed again."""
    number = int(os.environ.get("ZC_SEED") or random.randrange(1_000_000))
    with capsys.disabled():
        print(f"\nrandom machine: seed {number}", flush=True)
        print(told(play(place, number, STEPS), number), flush=True)
