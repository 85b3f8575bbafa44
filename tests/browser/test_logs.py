"""An agent's log in a real browser: many tabs, a platform that refuses for a while, times and colours."""

import pytest
from playwright.sync_api import expect

from tests.browser import chrome, site
from tests.browser.site import ADMIN

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]
expect.set_options(timeout=30_000)
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
STREAM = "**/logs?follow=1*"
LINES = """[...document.querySelectorAll("#log .line")].map(line => line.innerHTML)"""
PRINTED = (
    b"\x1e2026-01-31T12:00:00.123Z \x1b[1;32mINFO\x1b[0m up \x1b[2K<b>\xe2\x80\xae\n"
    b"\x1e2026-01-31T12:00:00.456Z \x1b[31merror:\x1b[0m down\n"
    b"of an earlier version\n"
)


@pytest.fixture(scope="module")
def served():
    with site.running(WEB_WORKERS="3") as found:
        found.manage("provision", "Acme", "--runtime", "process")
        yield found


@pytest.fixture
def window(served, browser):
    with chrome.context(browser, state=chrome.log_in(browser, served.link_for(ADMIN))) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(served):
    return f"{served.url}/tenants/acme/logs"


def state(page):
    return page.locator("#log-state")


def log_file(served):
    [path] = (served.home / "run").glob("*/log")
    return path


def test_many_tabs_that_are_not_seen_leave_the_browser_its_connections(window, address):
    tabs = []
    for _ in range(8):
        page = window.new_page()
        page.goto(address, timeout=20_000)  # with six streams open it would wait for ever
        expect(state(page)).to_have_text("live")
        page.evaluate(HIDE, True)
        tabs.append(page)
    expect(state(tabs[0])).to_have_text("waiting until this page is seen")
    before = tabs[0].evaluate(LINES)
    tabs[0].evaluate(HIDE, False)
    expect(state(tabs[0])).to_have_text("live")
    assert tabs[0].evaluate(LINES)[: len(before)] == before, "what was read stays, and nothing comes twice"
    assert len(set(tabs[0].evaluate(LINES))) == len(tabs[0].evaluate(LINES))


def test_a_tab_that_was_never_seen_opens_no_stream(window, address):
    page = window.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "follow=1" in request.url else None)
    page.add_init_script("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    page.goto(address)
    page.wait_for_timeout(500)
    assert asked == []
    page.evaluate(HIDE, False)
    expect(state(page)).to_have_text("live")


def test_who_is_refused_for_a_while_is_told_why_and_comes_back(window, address):
    refusals = [(429, {"Retry-After": "3"}), (503, {"Retry-After": "2"}), (502, {})]
    page = window.new_page()
    page.route(STREAM, lambda route: _refuse(route, refusals))
    page.goto(address)
    expect(state(page)).to_have_text("too many logs are open, trying again in 3 s")
    expect(state(page)).to_have_text("the platform does not answer just now, trying again in 2 s")
    expect(state(page)).to_have_text("the platform does not answer just now, trying again in 4 s")
    expect(state(page)).to_have_text("live")
    assert refusals == []


def _refuse(route, refusals):
    if not refusals:
        return route.continue_()
    status, headers = refusals.pop(0)
    return route.fulfill(status=status, headers=headers, body="")


def test_a_network_that_is_gone_is_tried_again_and_what_is_forbidden_is_not(window, address):
    page, fates = window.new_page(), ["abort", "forbid"]
    asked = []

    def act(route):
        asked.append(route.request.url)
        route.abort() if fates.pop(0) == "abort" else route.fulfill(status=404, body="")

    page.route(STREAM, act)
    page.goto(address)
    expect(state(page)).to_have_text("connection lost, trying again in 1 s")
    expect(state(page)).to_have_text("ended")
    page.wait_for_timeout(1_500)
    assert len(asked) == 2


def test_times_are_kept_and_colours_shown_the_same_with_and_without_scripts(served, window, address, browser):
    with log_file(served).open("ab") as log:
        log.write(PRINTED)
    page = window.new_page()
    page.goto(address)
    expect(state(page)).to_have_text("live")
    with_scripts = page.evaluate(LINES)[-3:]
    opened = browser.new_context(java_script_enabled=False, storage_state=window.storage_state())
    plain = opened.new_page()
    plain.goto(address)
    without = [line.inner_html() for line in plain.locator("#log .line").all()][-3:]
    opened.close()
    assert with_scripts == without
    assert with_scripts[0] == (
        '<time class="quiet">2026-01-31T12:00:00.123Z</time> <span class="ansi-bold ansi-green">INFO</span>'
        " up &lt;b&gt;\\u202e"
    )
    assert with_scripts[2] == "of an earlier version"
    watched = chrome.Watched(window)
    assert watched.faults(address) == []
    page.get_by_label("Filter the lines").fill("info up")
    assert page.locator("#log .line:visible").count() == 1


def test_new_lines_come_once_after_a_break_and_a_pause_keeps_them(served, window, address):
    page = window.new_page()
    page.goto(address)
    expect(state(page)).to_have_text("live")
    page.get_by_role("button", name="Pause").click()
    page.evaluate(HIDE, True)
    with log_file(served).open("ab") as log:
        log.write(b"\x1e2026-01-31T12:00:01.000Z while nobody looked\n")
    page.evaluate(HIDE, False)
    expect(state(page)).to_have_text("paused, 1 new lines")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#log .line", has_text="while nobody looked")).to_have_count(1)


POLL = """() => {
  const head = document.getElementById("tenant-head");
  head.setAttribute("hx-trigger", "every 1s");
  htmx.process(head);
}"""


def test_a_page_tells_what_it_asks_by_itself_until_it_is_touched(served, window, address):
    page = window.new_page()
    with page.expect_request(STREAM) as stream:
        page.goto(address)
    assert stream.value.headers["x-poll"] == "1"
    said = []
    for touch in (None, lambda: page.mouse.move(50, 60), None):
        if touch:
            touch()
        with page.expect_response("**/acme/state*") as polled:
            page.evaluate(POLL)
        said.append(polled.value.request.headers.get("x-poll"))
        page.wait_for_timeout(300)
    assert said == ["1", None, "1"]


def test_who_reads_for_long_is_there_and_who_has_left_is_not(served, window):
    page = window.new_page()
    page.clock.install()
    page.goto(f"{served.url}/account")
    asked = []
    page.on(
        "request", lambda request: asked.append(request.headers.get("x-poll")) if "users/me" in request.url else None
    )
    page.clock.run_for(60_000)
    assert asked == []
    page.mouse.move(50, 60)
    with page.expect_response("**/api/users/me") as answered:
        page.clock.run_for(30_000)
    assert (answered.value.status, asked) == (200, [None])
    page.clock.run_for(120_000)
    assert asked == [None]
