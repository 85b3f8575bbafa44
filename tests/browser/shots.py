"""Pictures of every page for the documentation: ``python -m tests.browser.shots`` writes docs/img/pages/."""

from __future__ import annotations

from pathlib import Path

from tests.architecture import ROOT
from tests.browser import cast, chrome, site, visits

FOLDER = ROOT / "docs" / "img" / "pages"
MODES = {
    "desktop": (chrome.DESKTOP, "light"),
    "dark": (chrome.DESKTOP, "dark"),
    "phone": (chrome.PHONE, "light"),
}
TALLEST = 1_400


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with site.running() as served, chrome.chromium() as browser:
        ids = cast.play(served)
        cast.measured(served)
        for mode, (viewport, scheme) in MODES.items():
            states, links = visits.visitors(served, browser)
            for who, pages in visits.pages(ids | links).items():
                with chrome.context(browser, state=states[who], viewport=viewport, scheme=scheme) as opened:
                    page = opened.new_page()
                    for name, path in pages.items():
                        page.goto(served.url + path, wait_until="load")
                        _take(page, FOLDER / f"{name}-{mode}.png")
                    for name, form in visits.FORMS.get(who, {}).items():
                        form.send(page, served.url)
                        _take(page, FOLDER / f"{name}-{mode}.png")


def _take(page: chrome.Page, path: Path) -> None:
    """The whole page, cut where it would be too long to look at."""
    page.wait_for_timeout(300)
    height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
    width = page.viewport_size["width"] if page.viewport_size else 1280
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


if __name__ == "__main__":
    main()
