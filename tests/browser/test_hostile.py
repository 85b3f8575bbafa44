"""K11 in a real browser: with a script in every free text, every page shows it as text, runs none of it, and keeps its
console silent under the Content-Security-Policy."""

from __future__ import annotations

import json

import pytest

from tests.browser import cast, chrome, poison, visits

pytestmark = [pytest.mark.chromium, pytest.mark.slow, pytest.mark.timeout(1_800)]
HOSTILE = "img[src=x], svg[onload], b[hx-get], script:not([src]):not([type='application/json'])"
WALK = """async () => {
  const links = [...document.querySelectorAll("a[data-dialog]")].filter((link) => link.checkVisibility());
  for (const link of links.slice(0, 4)) {
    link.click();
    for (let turn = 0; turn < 50 && !document.querySelector("dialog[open]"); turn++)
      await new Promise((done) => setTimeout(done, 100));
    document.querySelector("dialog")?.close();
  }
  return links.length;
}"""


@pytest.fixture(scope="module")
def stage(served, browser):
    ids = cast.play(served)
    states, links = visits.visitors(served, browser)
    return served, ids | links, states


@pytest.fixture(scope="module")
def more(stage):
    """Every text is poisoned; the paths of what is no picture."""
    served, ids, _states = stage
    served.manage("shell", "-v", "0", "-c", "from tests.browser.poison import poison; poison()")
    return [*cast.more_pages(ids), *visits.registered(served)]


def test_a_script_in_the_log_and_on_the_console_is_text(stage, browser):
    """What the agent says comes by a stream and is put in by a script of ours."""
    served, _ids, states = stage
    for log in served.home.glob("run/*/log"):
        with log.open("a") as file:
            file.write(poison.LONG + "\n")
    with chrome.context(browser, state=states["admin"]) as opened:
        watched = chrome.Watched(opened)
        page = watched.page
        page.goto(f"{served.url}/tenants/acme/logs")
        page.locator("#log .line", has_text="onerror=pwned").first.wait_for()
        page.get_by_placeholder("Filter").fill("onerror")
        assert page.locator(HOSTILE).count() == 0
        page.goto(f"{served.url}/tenants/acme/console")
        page.get_by_label("Any command").fill(f"printf %s {json.dumps(poison.SCRIPT)}")
        page.get_by_role("button", name="Run").click()
        page.locator("#h-output").wait_for()
        assert "onerror=pwned" in page.locator("main").inner_text()
        assert page.locator(HOSTILE).count() == 0
        assert page.evaluate("'pwned' in window") is False
        assert watched.said == []


def marks(watched, url):
    """What a script that ran, or an element that came of a text, would leave on the page at ``url``."""
    watched.page.goto("about:blank")
    watched.said.clear()
    answer = watched.page.goto(url, wait_until="load")
    watched.page.wait_for_timeout(150)
    opened = watched.page.evaluate(WALK) if "/admin/" not in url else 0
    found = [f"console: {text}" for text in watched.said]
    if watched.page.evaluate("'pwned' in window"):
        found.append("a script ran")
    if count := watched.page.locator(HOSTILE).count():
        found.append(f"{count} elements came of a text")
    if answer is None or answer.status >= 500:
        found.append(f"status {answer and answer.status}")
    return found, opened, "onerror=pwned" in watched.page.locator("body").inner_text()


def test_every_page_shows_a_stored_script_as_text(stage, more, browser):
    served, ids, states = stage
    faults, dialogs, shown = {}, 0, 0
    for who, pages in visits.pages(ids).items():
        with chrome.context(browser, state=states[who]) as opened:
            watched = chrome.Watched(opened)
            for path in dict.fromkeys([*pages.values(), *(more if who == "admin" else [])]):
                found, count, seen = marks(watched, served.url + path)
                dialogs, shown = dialogs + count, shown + seen
                if found:
                    faults[path] = found
    assert faults == {}
    assert dialogs > 10
    assert shown > 25  # the script did arrive
