"""Agents that are only listeners: answering, hanging, breaking off, and nobody at all."""

from __future__ import annotations

import pytest

from tests.monitoring.listeners import Listeners
from tests.tenants.conftest import world  # noqa: F401 - a fixture


@pytest.fixture
def listeners():
    with Listeners() as made:
        yield made
