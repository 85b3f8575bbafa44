"""Who looks at which page: every page that a GET renders, and some that a form answers with. That none of the former is
left out is held against the routes by ``tests/pages/test_looked_at.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page

from tests.browser import cast, chrome
from tests.browser.site import ADMIN, Site

MEMBER, INVITED, ENROLLED = "vic@example.com", "kim@example.com", "lena@example.com"
LINK, INVITATION = "link", "invitation"
REGISTERED = "import json; from tests.browser import cast; print(json.dumps(cast.admin_pages()))"


def pages(ids: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Paths by the name of the picture, by who looks; first who may look for a few minutes only."""
    return {
        "half in": {"second-factor": "/login/second-factor"},
        "enrolled": {
            "account-enrolled": "/account",
            "step-up": "/login/again?next=/account",
            "invitation-of-another": ids[INVITATION],
        },
        "code sent": {"login-code": "/login/code"},
        "nobody": {"login": "/login", "login-link": ids[LINK], "login-link-dead": "/login/no-such-link"},
        "member": {"dashboard-member": "/", "forbidden": "/tenants/acme/logs", "may-not-create": "/new-tenant"},
        "invited": {
            "invitation": ids[INVITATION],
            "dashboard-empty": "/",
            "tenants-empty": "/tenants/",
            "enrol": "/account/second-factor",
        },
        "admin": cast.pages(ids),
    }


@dataclass(frozen=True)
class Form:
    """A form that answers with a page of its own: what is filled in, by the field's id, and the button."""

    path: str
    button: str
    fields: dict[str, str] = field(default_factory=dict)

    def send(self, page: Page, url: str) -> None:
        page.goto(url + self.path)
        for name, value in self.fields.items():
            page.locator(f"main #{name}").fill(value)
        page.locator("main").get_by_role("button", name=self.button, exact=True).first.click()
        page.wait_for_load_state()


HOOK = {"id_name": "Pager", "id_url": "https://hooks.example.com/acme"}
FORMS = {
    "enrolled": {"recovery-codes": Form("/account", "Make new recovery codes")},
    "code sent": {"login-code-wrong": Form("/login/code", "Log in", {"code": "000000"})},
    "invited": {
        "enrol-wrong": Form("/account/second-factor", "Enrol", {"code": "000000"}),
        "api-key": Form("/account", "Make a key", {"id_name": "nightly report"}),
    },
    "admin": {
        "new-tenant-token": Form("/new-tenant", "Make the draft", {"id_name": "Wayne"}),
        "tenant-access-token": Form("/tenants/acme/access", "Make a token", {"token-name": "nightly report"}),
        "notifier-secret": Form("/tenants/acme/alerts/notifiers/add/webhook", "Add notifier", HOOK),
        "configuration-preview": Form(
            "/tenants/acme/configuration", "Preview the change", {"id_extra_config": '{"faults": {"exit_code": 4}}'}
        ),
        "console-output": Form("/tenants/acme/console", "Run", {"typed": "id"}),
    },
}
"""By who sends them, by the name of the picture."""


def visitors(site: Site, browser: Browser) -> tuple[dict[str, Any], dict[str, str]]:
    """The cookies of each, and the links that were sent. Good for one pass over the pages: who is half in may stay
    so for five minutes."""
    code = _enrol_anew(site)
    links = {
        LINK: site.link_for(MEMBER).removeprefix(site.url),
        INVITATION: site.mail_to(INVITED, r"(/invitations/\S+)", after=0),
    }
    states = {
        "admin": _logged_in(site, browser, ADMIN),
        "member": _logged_in(site, browser, MEMBER),
        "invited": _logged_in(site, browser, INVITED, then=_begin_to_enrol),
        "enrolled": _logged_in(site, browser, ENROLLED, then=lambda page: _show(page, code)),
        "half in": _logged_in(site, browser, ENROLLED),
        "code sent": _reached(browser, site.url + "/login", _send_code),
        "nobody": None,
    }
    return states, links


def registered(site: Site) -> list[str]:
    """The pages of whatever the admin registers."""
    found: list[str] = json.loads(site.manage("shell", "-v", "0", "-c", REGISTERED).strip().splitlines()[-1])
    return found


def _enrol_anew(site: Site) -> str:
    """A recovery code of somebody with a second factor, whether or not an earlier pass enrolled it."""
    if json.loads(site.manage("second_factor", ENROLLED, "--json"))["enrolled_at"]:
        site.manage("second_factor", ENROLLED, "--remove")
    code: str = json.loads(site.manage("second_factor", ENROLLED, "--enrol", "--json"))["recovery_codes"][0]
    return code


def _reached(browser: Browser, url: str, act: Callable[[Page], None]) -> Any:
    """The cookies after ``act`` on the page at ``url``."""
    with chrome.context(browser) as opened:
        page = opened.new_page()
        page.goto(url)
        act(page)
        return opened.storage_state()


def _logged_in(site: Site, browser: Browser, email: str, then: Callable[[Page], None] | None = None) -> Any:
    def act(page: Page) -> None:
        page.click("main button[type=submit]")
        page.wait_for_url(lambda url: url != link)
        if then is not None:
            then(page)

    link = site.link_for(email)
    return _reached(browser, link, act)


def _show(page: Page, code: str) -> None:
    page.locator("#code").fill(code)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/")


def _begin_to_enrol(page: Page) -> None:
    page.goto(page.url.rstrip("/") + "/account")
    page.get_by_role("button", name="Enrol an app").click()
    page.locator("img.qr").wait_for()


def _send_code(page: Page) -> None:
    page.locator("#email").fill("somebody@example.com")
    page.get_by_role("button", name="Send code").click()
    page.locator("#code").wait_for()
