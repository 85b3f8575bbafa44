"""Debian's Chromium, and what is asked of every page: no violation, no overflow, no word on the console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 740}
CUT = """[...document.querySelectorAll(".results, .wide-table")].filter(e => e.checkVisibility())
  .map(e => e.scrollWidth - e.clientWidth).filter(px => px > 0)"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def context(browser: Browser, *, state: Any = None, viewport: Any = DESKTOP, scheme: Any = "light") -> BrowserContext:
    return browser.new_context(
        viewport=viewport, color_scheme=scheme, storage_state=state, locale="en-GB", reduced_motion="reduce"
    )


def log_in(browser: Browser, link: str) -> Any:
    """The cookies of somebody who came by a login link."""
    with context(browser) as opened:
        page = opened.new_page()
        page.goto(link)
        page.click("main button[type=submit]")
        page.wait_for_url("**/")
        return opened.storage_state()


# A status that was meant, in Chromium's words; and other tests' networks, which come and go on a machine.
LEFT_OUT = ("server responded with a status of 4", "net::ERR_NETWORK_CHANGED")


class Watched:
    """A page whose console is listened to; but for what is left out above."""

    def __init__(self, opened: BrowserContext) -> None:
        self.page: Page = opened.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(known in text for known in LEFT_OUT):
            self.said.append(text)

    def faults(self, url: str) -> list[str]:
        """What is wrong with the page at ``url``; empty when nothing is."""
        self.page.goto("about:blank")
        self.said.clear()
        self.page.goto(url, wait_until="load")
        return self.faults_here()

    def faults_here(self) -> list[str]:
        """What is wrong with the page that was come to."""
        self.page.wait_for_timeout(200)
        found = [f"console: {text}" for text in self.said]
        if (wider := self.page.evaluate(WIDER)) > 0:
            found.append(f"{wider} px wider than the screen")
        if self.page.viewport_size == DESKTOP and (cut := self.page.evaluate(CUT)):
            found.append(f"tables cut off, by {cut} px")  # on a phone they may be pushed to and fro
        report = Axe().run(self.page, options={"preload": False}).response
        return found + [f"axe {rule['id']}: {rule['nodes'][0]['html'][:120]}" for rule in report["violations"]]
