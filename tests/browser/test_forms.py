"""What becomes of what was typed when something comes in between."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import chrome
from tests.browser.site import ADMIN
from tests.browser.test_live import OUT

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(600)]
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def acme(served):
    served.manage("provision", "Acme", "--plan", "pro", "--runtime", "process", "--json")
    return f"{served.url}/tenants/acme/"


@pytest.fixture
def page(served, browser):
    with chrome.context(browser, state=chrome.log_in(browser, served.link_for(ADMIN))) as opened:
        watched = chrome.Watched(opened)
        yield watched.page
        assert watched.said == []


def by_code(served, page):
    before = len(served.box.mails)
    page.get_by_label("Your e-mail address").fill(ADMIN)
    page.get_by_role("button", name="Send code").click()
    page.get_by_label("Code").fill(served.mail_to(ADMIN, r"\b(\d{6})\b", after=before))
    page.get_by_role("button", name="Log in").click()


def test_a_form_sent_after_the_session_s_end_keeps_what_was_typed_but_no_secret(served, page, acme):
    page.goto(f"{acme}configuration")
    page.get_by_label("Provider").select_option("openai")
    page.locator("#id_model").fill("gpt-typed")
    page.get_by_label("API key").fill("sk-typed-0123456789")
    served.manage("shell", "-v", "0", "-c", OUT)
    page.get_by_role("button", name="Save and apply").click()
    expect(page.get_by_text("nothing was saved")).to_be_visible()
    assert "sk-typed" not in page.evaluate("JSON.stringify({ ...sessionStorage })")
    by_code(served, page)
    expect(page.locator("#id_model")).to_have_value("gpt-typed")
    expect(page.get_by_label("Provider")).to_have_value("openai")
    expect(page.get_by_label("API key")).to_have_value("")
    expect(page.get_by_text("What you typed is here again")).to_be_visible()
    page.reload()
    expect(page.locator("#id_model")).to_have_value("")
    assert page.evaluate("sessionStorage.getItem('zc-draft')") is None


def test_a_form_of_an_act_leads_back_to_the_page_it_stands_on(served, page, acme):
    page.goto(f"{acme}members")
    form = page.locator("form[action$='/members/invite']")
    form.locator("[name=email]").fill("typed@example.com")
    served.manage("shell", "-v", "0", "-c", OUT)
    form.get_by_role("button").click()
    expect(page.get_by_text("nothing was saved")).to_be_visible()
    by_code(served, page)
    page.wait_for_url("**/members")
    expect(form.locator("[name=email]")).to_have_value("typed@example.com")
