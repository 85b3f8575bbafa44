"""The docker runtime on a real engine."""

from __future__ import annotations

import pytest

from tests.tenants.runtimes.contract import RealAgentContract

pytestmark = pytest.mark.docker


@pytest.fixture
def bench(docker_bench):
    return docker_bench


class TestDockerRuntime(RealAgentContract):
    """The whole contract."""
