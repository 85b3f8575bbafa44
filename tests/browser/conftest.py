from __future__ import annotations

import pytest

from tests.browser import chrome, site


@pytest.fixture(scope="module")
def served():
    with site.running() as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chrome.chromium() as found:
        yield found
