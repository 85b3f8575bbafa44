"""Every page in light, in dark and on a phone: axe finds nothing, nothing is wider than the screen, and the console
stays silent under the Content-Security-Policy."""

from __future__ import annotations

import pytest

from tests.browser import cast, chrome, visits

pytestmark = [pytest.mark.chromium, pytest.mark.slow, pytest.mark.timeout(1_200)]
MODES = {"light": (chrome.DESKTOP, "light"), "dark": (chrome.DESKTOP, "dark"), "phone": (chrome.PHONE, "light")}


@pytest.fixture(scope="module")
def stage(served):
    ids = cast.play(served)
    more = cast.more_pages(ids) | {path: path for path in visits.registered(served)}
    return served, ids, more


@pytest.mark.parametrize("mode", MODES)
def test_every_page_is_accessible_and_fits(stage, browser, mode):
    served, ids, more = stage
    viewport, scheme = MODES[mode]
    states, links = visits.visitors(served, browser)
    found = {}
    for who, pages in visits.pages(ids | links).items():
        with chrome.context(browser, state=states[who], viewport=viewport, scheme=scheme) as opened:
            watched = chrome.Watched(opened)
            for name, path in (pages | more if who == "admin" else pages).items():
                if faults := watched.faults(served.url + path):
                    found[name] = faults
            for name, form in visits.FORMS.get(who, {}).items():
                form.send(watched.page, served.url)
                if faults := watched.faults_here():
                    found[name] = faults
    assert found == {}
