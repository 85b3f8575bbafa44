"""Fixtures of the runtimes' tests."""

from __future__ import annotations

import pytest

from tenants.runtimes.docker import DockerRuntime
from tests.tenants.runtimes.docker_bench import bench_on, remove_labelled, sweep


@pytest.fixture(scope="session")
def installation():
    """The docker runtime of a test installation that leaves nothing behind."""
    runtime = DockerRuntime()
    sweep(runtime)
    yield runtime
    sweep(runtime)


@pytest.fixture
def emptied(installation, settings):
    """The same for one test: its containers go when it ends, or the next test would find agents of nobody."""
    yield installation
    remove_labelled(installation.engine, f"zcplatform.instance={settings.INSTANCE}")


@pytest.fixture
def docker_bench(emptied):
    """A bench on the real engine."""
    return bench_on(emptied)
