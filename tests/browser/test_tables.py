"""Words stay whole in tables, and the admin has a menu on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import chrome
from tests.browser.site import ADMIN

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(600)]
expect.set_options(timeout=30_000)
BROKEN = r"""() => { const found = [];
  for (const cell of document.querySelectorAll("main table td, main table th")) {
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) for (const word of walk.currentNode.data.matchAll(/[\p{L}\d]{2,20}/gu)) {
      const range = document.createRange();
      range.setStart(walk.currentNode, word.index);
      range.setEnd(walk.currentNode, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter(box => box.width).map(box => Math.round(box.top)));
      if (tops.size > 1) found.push(word[0]);
    }
  }
  return found; }"""


@pytest.fixture(scope="module")
def state(served, browser):
    served.manage("provision", "Acme", "--plan", "pro", "--runtime", "process", "--json")
    return chrome.log_in(browser, served.link_for(ADMIN))


@pytest.mark.parametrize("viewport", [chrome.DESKTOP, {"width": 768, "height": 800}, chrome.PHONE])
def test_no_word_is_broken_inside(served, browser, state, viewport):
    found = {}
    with chrome.context(browser, state=state, viewport=viewport) as opened:
        page = opened.new_page()
        for path in ("tenants/", *(f"tenants/acme/{tab}" for tab in ("runs", "audit", "members", "access")), "account"):
            page.goto(f"{served.url}/{path}")
            if broken := page.evaluate(BROKEN):
                found[path] = broken
            assert page.evaluate(chrome.WIDER) <= 0, path
    assert found == {}


def test_a_table_in_little_room_is_pushed_to_and_fro_instead(served, browser, state):
    found = {}
    with chrome.context(browser, state=state) as opened:
        page = opened.new_page()
        for tab in ("runs", "audit"):
            page.goto(f"{served.url}/tenants/acme/{tab}")
            page.evaluate("document.querySelector('.wide-table').style.width = '160px'")
            found[tab] = page.evaluate(BROKEN)
    assert found == {"runs": [], "audit": []}


def test_the_admin_has_a_menu_on_a_phone(served, browser, state):
    with chrome.context(browser, state=state, viewport=chrome.PHONE) as opened:
        watched = chrome.Watched(opened)
        watched.page.goto(f"{served.url}/admin/")
        watched.page.get_by_text("Menu").click()
        menu = watched.page.get_by_role("navigation", name="Menu")
        expect(menu.get_by_role("link", name="Plans")).to_be_visible()
        assert watched.faults_here() == []
        menu.get_by_role("link", name="Users").click()
        watched.page.wait_for_url("**/admin/accounts/user/")
    with chrome.context(browser, state=state) as opened:
        page = opened.new_page()
        page.goto(f"{served.url}/admin/")
        expect(page.locator(".phone-menu")).to_be_hidden()
