"""Parts of a page that renew themselves: what they never replace, and what is said when they can't."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import chrome
from tests.browser.site import ADMIN

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(600)]
expect.set_options(timeout=30_000)
OUT = "from accounts.models import Login; from django.utils.timezone import now; Login.objects.update(revoked_at=now())"
TICK = "document.querySelector('#tenant-head').setAttribute('data-before', '')"
RENEW = """() => { const head = document.querySelector("#tenant-head");
  htmx.ajax("GET", head.getAttribute("hx-get"), { source: head, target: head, swap: "outerHTML" }); }"""
MARK = """document.activeElement.blur();
  getSelection().selectAllChildren(document.querySelector(".state-line"))"""
BEFORE = "#tenant-head[data-before]"


@pytest.fixture(scope="module")
def acme(served):
    served.manage("provision", "Acme", "--plan", "pro", "--runtime", "process", "--json")
    return f"{served.url}/tenants/acme/"


@pytest.fixture
def watched(served, browser, acme):
    """An admin's window on the overview of acme."""
    with chrome.context(browser, state=chrome.log_in(browser, served.link_for(ADMIN))) as opened:
        watched = chrome.Watched(opened)
        watched.page.goto(acme)
        watched.page.evaluate(TICK)
        yield watched


@pytest.fixture
def page(watched):
    return watched.page


def renew(page):
    """What the clock does every 20 s."""
    page.evaluate(RENEW)
    page.wait_for_timeout(500)


def test_an_open_menu_a_focus_and_marked_text_are_waited_for(page):
    page.locator(".tenant-head summary").click()
    renew(page)
    expect(page.locator(".tenant-head details")).to_have_attribute("open", "")
    expect(page.locator(BEFORE)).to_be_visible()
    page.keyboard.press("Escape")  # which leaves the focus on the menu's button
    renew(page)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.evaluate(MARK)
    renew(page)
    expect(page.locator(BEFORE)).to_be_visible()
    page.evaluate("getSelection().removeAllRanges()")
    renew(page)
    expect(page.locator(BEFORE)).to_have_count(0)


def test_what_is_opened_while_the_answer_is_under_way_is_waited_for(page):
    def slowly(route):
        page.locator(".tenant-head summary").click()
        route.continue_()

    page.route("**/state?**", slowly)
    page.evaluate(RENEW)
    page.wait_for_timeout(1_000)
    expect(page.locator(f"{BEFORE} details[open]")).to_be_visible()


def test_without_the_platform_a_page_says_how_old_it_is(page):
    page.clock.install()
    page.reload()
    expect(page.locator("#age")).to_be_hidden()
    page.context.set_offline(True)
    page.clock.fast_forward(50_000)
    page.wait_for_timeout(500)
    page.clock.fast_forward(40_000)
    expect(page.locator("#age")).to_contain_text("No answer from the platform: this is how it was 1 min ago.")
    page.context.set_offline(False)
    page.clock.fast_forward(21_000)
    expect(page.locator("#age")).to_be_hidden()


@pytest.mark.parametrize("status", [429, 502, 503])
def test_an_answer_that_is_none_makes_the_page_older(page, status):
    page.clock.install()
    page.reload()
    page.route("**/state?**", lambda route: route.fulfill(status=status, body="<h1>Busy</h1>"))
    page.clock.fast_forward(50_000)
    page.wait_for_timeout(500)
    page.clock.fast_forward(30_000)
    expect(page.locator("#age")).to_contain_text("No answer from the platform")
    expect(page.locator(".tenant-head .pill-running")).to_be_visible()


def test_a_page_that_does_not_renew_itself_says_how_old_it_is(served, page):
    page.clock.install()
    page.goto(f"{served.url}/tenants/")
    page.clock.fast_forward(4 * 60_000)
    expect(page.locator("#age")).to_be_hidden()
    page.clock.fast_forward(2 * 60_000)
    expect(page.locator("#age")).to_contain_text("This is how it was 6 min ago.")
    page.get_by_role("link", name="Load the page again").click()
    expect(page.locator("#age")).to_be_hidden()


def test_after_the_session_s_end_no_login_page_is_painted_into_the_page(served, page):
    served.manage("shell", "-v", "0", "-c", OUT)
    renew(page)
    expect(page.get_by_text("You are logged out")).to_be_visible()
    expect(page.locator(".tenant-head .pill-running")).to_be_visible()
    expect(page.get_by_label("Your e-mail address")).to_have_count(0)
    page.locator("#age").get_by_role("link", name="Log in").click()
    expect(page.get_by_label("Your e-mail address")).to_be_visible()
    assert "next=/tenants/acme/" in page.url.replace("%2F", "/")


def test_no_other_page_is_painted_into_the_page(page):
    """Whatever sends a part elsewhere."""
    page.route("**/state?**", lambda route: route.fulfill(status=200, body="<main><h1>Log in</h1></main>"))
    renew(page)
    expect(page.get_by_role("heading", name="Log in")).to_have_count(0)
    expect(page.locator("#age")).to_contain_text("You are logged out")


def test_a_deleted_tenant_says_so_asks_no_more_and_is_brought_back(served, watched):
    page, asked = watched.page, []
    page.on("request", lambda request: asked.append(request.url) if "/state" in request.url else None)
    served.manage("deprovision", "acme", "--yes")
    renew(page)
    expect(page.locator(".tenant-head .pill-deleted")).to_be_visible()
    expect(page.locator(".tenant-head")).to_contain_text("Deleted")
    expect(page.locator("#tenant-tabs")).to_have_count(0)
    before = len(asked)
    page.wait_for_timeout(5_000)
    assert len(asked) == before
    assert watched.said == []
    page.get_by_role("link", name="Deleted tenants").click()
    page.get_by_role("button", name="Bring back").click()
    expect(page.locator("#new-token")).to_contain_text("zct_")
    expect(page.locator(".tenant-head .pill-stopped")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#run .pill-run-succeeded")).to_be_visible(timeout=60_000)
