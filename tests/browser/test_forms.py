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


def test_back_in_the_wizard_makes_no_second_tenant_and_no_dead_end(served, page):
    page.goto(f"{served.url}/new-tenant")
    first = page.url
    page.get_by_label("Name").fill("Twice")
    page.get_by_label("Plan").select_option("pro")
    page.get_by_role("button", name="Make the draft").click()
    expect(page.locator("#new-token")).to_contain_text("zct_")
    page.get_by_role("link", name="Go on: the model").click()
    page.go_back()  # to the token's page, which opens and shows it no more
    expect(page.get_by_text("It is not shown again")).to_be_visible()
    page.go_back()
    assert page.url == first
    page.get_by_label("Name").fill("Twice")
    page.get_by_label("Plan").select_option("pro")
    page.get_by_role("button", name="Make the draft").click()
    page.wait_for_url("**/tenants/twice/setup/model")
    expect(page.get_by_text("This form was sent before")).to_be_visible()
    page.goto(f"{served.url}/tenants/?q=twice")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{served.url}/new-tenant")
    assert page.url != first


def test_back_after_a_token_opens_the_page(served, page, acme):
    page.goto(f"{acme}access")
    page.get_by_label("What it is for").fill("site")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("#new-token")).to_contain_text("zct_")
    page.get_by_role("link", name="Overview").click()
    page.go_back()
    expect(page.get_by_role("heading", name="Access tokens")).to_be_visible()
    expect(page.locator("#new-token")).to_have_count(0)
