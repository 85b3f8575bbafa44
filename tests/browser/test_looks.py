"""Every page in light, in dark and on a phone: axe finds nothing, nothing is wider than the screen, and the console
stays silent under the Content-Security-Policy."""

from __future__ import annotations

import pytest

from tests.browser import cast, chrome

pytestmark = [pytest.mark.chromium, pytest.mark.slow, pytest.mark.timeout(900)]
MODES = {"light": (chrome.DESKTOP, "light"), "dark": (chrome.DESKTOP, "dark"), "phone": (chrome.PHONE, "light")}


@pytest.fixture(scope="module")
def stage(served, browser):
    ids = cast.play(served)
    states = {"admin": chrome.log_in(browser, served.link_for("admin@example.com"))}
    states["viewer"] = chrome.log_in(browser, served.link_for("vic@example.com"))
    return served, ids, states


@pytest.mark.parametrize("mode", MODES)
def test_every_page_is_accessible_and_fits(stage, browser, mode):
    served, ids, states = stage
    viewport, scheme = MODES[mode]
    wanted = [
        (states["admin"], cast.pages(ids) | cast.more_pages(ids)),
        (states["viewer"], cast.MEMBER_PAGES),
        (None, cast.OPEN_PAGES),
    ]
    found = {}
    for state, pages in wanted:
        with chrome.context(browser, state=state, viewport=viewport, scheme=scheme) as opened:
            watched = chrome.Watched(opened)
            for name, path in pages.items():
                if faults := watched.faults(served.url + path):
                    found[name] = faults
    assert found == {}
