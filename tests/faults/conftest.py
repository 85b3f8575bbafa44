"""The worlds that the faults happen in; each is kept for a whole module, in a database of its own."""

from __future__ import annotations

import pytest

from tests.faults.world import installed


@pytest.fixture(scope="module")
def world(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock(), installed("process") as made:
        yield made


@pytest.fixture(scope="module")
def docker_world(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock(), installed("docker") as made:
        yield made
