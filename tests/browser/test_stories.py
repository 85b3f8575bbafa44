"""What a person does, in a real browser against the really served platform: the stories, in order, on one site."""

from __future__ import annotations

import base64
import re
import time

import pytest
from django_otp.oath import totp
from playwright.sync_api import expect

from tests.browser import chrome
from tests.browser.site import ADMIN, LIMIT_S, MODEL_KEY

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(600)]
expect.set_options(timeout=30_000)
DANA = "dana@example.com"
KEPT = {}
"""What the fifth story leaves to the sixth: the app's secret, and the cookies of who enrolled it."""
LATER = """
from datetime import timedelta
from accounts.models import Login
from zcplatform.lib import clock
Login.objects.filter(user__email="dana@example.com").update(verified_at=clock.now() - timedelta(minutes=11))
"""


def by_code(served, page, email):
    """Log in by the code of the mail that really arrives."""
    before = len(served.box.mails)
    page.goto(f"{served.url}/login")
    page.get_by_label("Your e-mail address").fill(email)
    page.get_by_role("button", name="Send code").click()
    page.get_by_label("Code").fill(served.mail_to(email, r"\b(\d{6})\b", after=before))
    page.get_by_role("button", name="Log in").click()


@pytest.fixture(scope="module")
def boss(served, browser):
    """The super-admin's window, whose console must stay silent through all the stories."""
    with chrome.context(browser) as opened:
        watched = chrome.Watched(opened)
        by_code(served, watched.page, ADMIN)
        expect(watched.page.get_by_role("heading", name="Fleet")).to_be_visible()
        yield watched.page
        assert watched.said == []


def finished(page):
    """Wait for the run on the page to end, told by the page itself."""
    expect(page.locator("#run .pill-run-succeeded")).to_be_visible(timeout=LIMIT_S * 1_000)


def more(page, verb):
    page.locator(".tenant-head summary").click()
    page.locator(".tenant-head").get_by_role("link", name=f"{verb}…").click()


def test_1_a_tenant_is_made_with_the_wizard_and_seen_to_run(served, boss):
    boss.get_by_role("link", name="New tenant").click()
    boss.get_by_label("Name").fill("Acme")
    boss.get_by_label("Plan").select_option("pro")
    boss.get_by_role("button", name="Make the draft").click()
    expect(boss.get_by_text("shown once and never again")).to_be_visible()
    boss.get_by_role("link", name="Go on: the model").click()
    boss.get_by_label("Provider").select_option("custom")
    boss.get_by_label("Model").fill("test-model")
    boss.locator("#id_base_url").fill(served.provider)
    boss.get_by_label("API key").fill(MODEL_KEY)
    boss.get_by_role("button", name="Test connection").click()
    expect(boss.get_by_text("It works.")).to_be_visible()
    boss.get_by_role("button", name="Go on: channels").click()
    boss.get_by_role("link", name="Skip: review").click()
    boss.get_by_role("button", name="Deploy acme").click()
    boss.wait_for_url("**/runs/*")
    address = boss.url
    boss.goto(f"{served.url}/tenants/")  # leaving and coming back loses nothing
    boss.goto(address)
    finished(boss)
    expect(boss.locator("#run .step-done")).to_have_count(boss.locator("#run .step").count())
    expect(boss.get_by_text("It answers at")).to_be_visible()
    boss.get_by_role("link", name="Go to acme").click()
    expect(boss.locator(".tenant-head .pill-running")).to_be_visible()


def test_2_a_wrong_key_is_told_by_the_test_and_a_broken_agent_by_its_run(served, boss):
    boss.goto(f"{served.url}/tenants/acme/configuration")
    boss.get_by_role("button", name="Test connection").click()
    expect(boss.locator("main > .toast-success")).to_contain_text("It works.")  # with the key that was stored
    boss.get_by_label("API key").fill("sk-wrong-0123456789")
    boss.get_by_role("button", name="Test connection").click()
    expect(boss.locator("main > .toast-error")).to_contain_text("did not accept what was sent")
    assert "sk-wrong" not in boss.content().replace(boss.get_by_label("API key").evaluate("e => e.outerHTML"), "")
    boss.goto(f"{served.url}/tenants/acme/configuration")
    boss.get_by_label("Extra configuration").fill('{"faults": {"exit_code": 3}}')
    boss.get_by_role("button", name="Save and apply").click()
    boss.wait_for_url("**/runs/*")
    expect(boss.locator("#run .pill-run-failed")).to_be_visible(timeout=2 * LIMIT_S * 1_000)
    expect(boss.locator("#run .headline")).to_have_text("The agent exits again and again")
    expect(boss.locator("#run .step-failed .cause")).to_contain_text("exit code 3")
    expect(boss.locator("#run").get_by_role("button", name="Retry")).to_be_visible()


def test_3_a_change_is_previewed_and_the_old_one_brought_back(served, boss):
    boss.goto(f"{served.url}/tenants/acme/configuration")
    boss.get_by_label("Extra configuration").fill('{"faults": {"exit_code": 4}}')
    boss.get_by_role("button", name="Preview the change").click()
    expect(boss.locator(".diff .plus")).to_contain_text('"exit_code": 4')
    expect(boss.locator(".diff .minus")).to_contain_text('"exit_code": 3')
    boss.get_by_role("link", name="History").click()
    boss.locator('a[href$="/history/1"]').click()
    boss.get_by_role("button", name="Roll back").click()
    boss.wait_for_url("**/runs/*")
    finished(boss)
    expect(boss.locator(".tenant-head .pill-running")).to_be_visible()


def test_4_logs_are_watched_as_they_come_and_charts_are_drawn(served, boss):
    boss.goto(f"{served.url}/tenants/acme/logs")
    expect(boss.locator("#log-state")).to_have_text("live")
    lines = boss.locator("#log .line")
    expect(lines.first).to_contain_text("demo agent listens")
    before = lines.count()
    served.manage("restart", "acme")
    expect(lines.nth(before)).to_contain_text("demo agent")
    boss.get_by_role("button", name="Pause").click()
    expect(boss.locator("#log-state")).to_contain_text("paused")
    boss.get_by_placeholder("Filter").fill("no such words")
    expect(boss.locator("#log .line:visible")).to_have_count(0)
    until = time.monotonic() + 3 * LIMIT_S  # the resources are swept once a minute
    while time.monotonic() < until:
        boss.goto(f"{served.url}/tenants/acme/usage?range=1h")
        if boss.locator(".chart canvas").count() >= 2:
            break
        boss.wait_for_timeout(3_000)
    expect(boss.locator(".chart canvas").first).to_be_visible()
    boss.get_by_text("As a table").first.click()
    expect(boss.locator("details[open] tbody tr").first).to_be_visible()


def test_5_a_member_is_invited_enrols_an_app_and_sees_what_the_role_allows(served, boss, browser):
    before = len(served.box.mails)
    boss.goto(f"{served.url}/tenants/acme/members")
    boss.get_by_label("E-mail").fill(DANA)
    boss.locator("#invite-role").select_option("viewer")
    boss.get_by_role("button", name="Send invitation").click()
    expect(boss.locator(".toast-success")).to_contain_text(f"{DANA} is invited")
    link = served.mail_to(DANA, r"(http://\S+/invitations/\S+)", after=before)
    with chrome.context(browser) as opened:
        dana = opened.new_page()
        dana.goto(link)
        dana.get_by_role("button", name="Accept").click()
        dana.get_by_role("link", name="Go to acme").click()
        tabs = dana.get_by_role("navigation", name="Pages of acme").get_by_role("link")
        expect(tabs).to_have_text(["Overview", "Configuration", "Channels", "Members", "Usage", "Runs"])
        assert dana.locator(".tenant-head .main-act").count() == 0
        dana.goto(f"{served.url}/tenants/acme/logs")
        expect(dana.get_by_text("contributor, manager, owner")).to_be_visible()
        secret = _enrol(served, dana)
        opened.clear_cookies()
        by_code(served, dana, DANA)
        _wait_for_another_code(secret)
        dana.get_by_label("Code of the app, or recovery code").fill(_code(secret))
        dana.get_by_role("button", name="Go on").click()
        expect(dana.get_by_role("heading", name="Your tenants")).to_be_visible()
        KEPT.update(secret=secret, state=opened.storage_state())


def _enrol(served, page):
    page.goto(f"{served.url}/account")
    page.get_by_role("button", name="Enrol an app").click()
    secret = page.locator("main code").first.inner_text()
    page.get_by_label("Code of the app").fill(_code(secret))
    page.get_by_role("button", name="Enrol").click()
    expect(page.get_by_text(re.compile(r"\b[a-z2-7]{5}-[a-z2-7]{5}\b")).first).to_be_visible()
    return secret


def _code(secret):
    return f"{totp(base64.b32decode(secret)):06}"


def _wait_for_another_code(secret):
    """A code works once; the next begins within half a minute."""
    used = _code(secret)
    until = time.monotonic() + LIMIT_S
    while _code(secret) == used and time.monotonic() < until:
        time.sleep(0.5)


def test_6_an_owner_shows_the_second_factor_again_before_what_can_t_be_undone(served, boss, browser):
    boss.goto(f"{served.url}/tenants/acme/members")
    row = boss.get_by_role("row", name=re.compile(DANA))
    row.get_by_role("combobox").select_option("owner")
    row.get_by_role("button", name="Set").click()
    expect(boss.locator(".toast-success")).to_contain_text(f"{DANA} is owner now")
    with chrome.context(browser, state=KEPT["state"]) as opened:
        watched = chrome.Watched(opened)
        dana, asked = watched.page, watched.page.get_by_role("heading", name="Enter your code again")
        served.manage("shell", "-v", "0", "-c", LATER)
        more_of(dana, served, "Delete")
        expect(asked).to_be_visible()  # the dialog gives way to the page that asks
        dana.goto(f"{served.url}/tenants/acme/console")
        expect(asked).to_be_visible()
        dana.goto(f"{served.url}/tenants/acme/transfer")
        expect(asked).to_be_visible()
        dana.goto(f"{served.url}/tenants/acme/access")
        dana.get_by_role("link", name="Rotate all secrets…").click()
        expect(asked).to_be_visible()
        dana.get_by_label("Code of the app, or recovery code").fill("000000")
        dana.get_by_role("button", name="Go on").click()
        expect(dana.locator("[aria-invalid=true]")).to_be_visible()
        _wait_for_another_code(KEPT["secret"])
        dana.get_by_label("Code of the app, or recovery code").fill(_code(KEPT["secret"]))
        dana.get_by_role("button", name="Go on").click()
        dana.get_by_role("button", name="Rotate secrets").click()
        expect(dana.locator("#new-token")).to_be_visible()
        dana.get_by_role("link", name="Follow the run", exact=True).click()
        finished(dana)
        more_of(dana, served, "Delete")  # for ten minutes nobody asks again
        expect(dana.locator("dialog[open]").get_by_role("heading", name="Delete acme?")).to_be_visible()
        dana.goto(f"{served.url}/tenants/acme/console")
        dana.get_by_label("Any command").fill("id -u")
        dana.get_by_role("button", name="Run").click()
        expect(dana.get_by_text("Done.")).to_be_visible()
        assert watched.said == []


def more_of(page, served, verb):
    page.goto(f"{served.url}/tenants/acme/")
    more(page, verb)


def test_7_suspending_and_deleting_ask_in_a_dialog_and_for_the_typed_name(served, boss):
    boss.goto(f"{served.url}/tenants/acme/")
    more(boss, "Suspend")
    dialog = boss.locator("dialog[open]")
    expect(dialog.get_by_role("heading", name="Suspend acme?")).to_be_visible()
    dialog.get_by_role("button", name="Suspend acme").click()
    boss.wait_for_url("**/runs/*")
    finished(boss)
    expect(boss.locator(".tenant-head .pill-suspended")).to_be_visible()
    more(boss, "Delete")
    dialog.get_by_label("Type “acme” to go on").fill("acm")
    dialog.get_by_role("button", name="Delete acme").click()
    expect(boss.get_by_text("nothing was deleted")).to_be_visible()
    boss.get_by_label("Type “acme” to go on").fill("acme")
    boss.get_by_role("button", name="Delete acme").click()
    boss.wait_for_url("**/runs/*")
    finished(boss)
    boss.goto(f"{served.url}/tenants/")
    expect(boss.get_by_text("No tenants yet")).to_be_visible()


def test_8_a_super_admin_stops_many_after_a_dry_run_and_exports_the_audit(served, boss):
    for name in ("One", "Two"):
        served.manage("provision", name, "--plan", "pro", "--runtime", "process", "--json")
    served.manage("suspend", "two")
    boss.goto(f"{served.url}/admin/tenants/tenant/")
    for slug in ("one", "two"):
        boss.get_by_role("row", name=re.compile(rf"\b{slug}\b")).get_by_role("checkbox").check()
    boss.locator("select[name=action]").select_option("bulk_stop")
    boss.locator("button[name=index]").first.click()
    boss.get_by_role("button", name="Dry run").click()
    expect(boss.get_by_role("row", name=re.compile("^one "))).to_contain_text("Would be asked for")
    expect(boss.get_by_role("row", name=re.compile("^two "))).to_contain_text("suspended")
    boss.get_by_role("button", name="Stop 2 tenants").click()
    expect(boss.get_by_role("row", name=re.compile("^two "))).to_contain_text("✗")
    boss.get_by_role("row", name=re.compile("^one ")).get_by_role("link", name="Stop").click()
    expect(boss.locator(".pill-run-succeeded").first).to_be_visible(timeout=LIMIT_S * 1_000)
    boss.goto(f"{served.url}/admin/audit/auditentry/")
    with boss.expect_download() as caught:
        boss.get_by_role("button", name="Export CSV").click()
    text = caught.value.path().read_text()
    assert text.startswith("id,created_at,")
    assert "tenant.stop" in text
