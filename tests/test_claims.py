"""Figures that the documents name, against what the code says. A figure that moves takes its sentence along."""

from __future__ import annotations

import re

import pytest

from audit import admin as audit_admin
from audit import export
from monitoring import series
from monitoring.alerting import services as alerts
from monitoring.alerting.rules import DEFAULTS
from tenants.channels import CHANNELS
from tenants.pages import paging
from tenants.providers import PROVIDERS
from tests.architecture import ROOT
from zcplatform.lib import admin_lists
from zcplatform.lib.schemas import MAX_PAGE


def text_of(name):
    return " ".join((ROOT / name).read_text().split())


def polls():
    """The intervals at which parts of the pages ask for themselves again, in seconds."""
    found = re.findall(
        r'hx-trigger="every ([^"]*)"', "".join(p.read_text() for p in (ROOT / "templates").rglob("*.html"))
    )
    return {int(number) for trigger in found for number in re.findall(r"(\d+)s", trigger)}


def version_of(file):
    return re.search(r"\b\d+\.\d+\.\d+\b", (ROOT / file).read_text())[0]


CLAIMS = {
    "how many channels and providers": (
        "README.md",
        f"Channels ({len(CHANNELS)}) and model providers ({sum(kind.has_model for kind in PROVIDERS.values())})",
    ),
    "a page of a list": ("docs/pages.md", {50: "fifty a page"}.get(paging.SIZE, "?")),
    "an export of the audit": ("docs/pages.md", f"at most {export.MOST:,} rows"),
    "counting in the admin": ("docs/pages.md", f"count no further than {admin_lists.MOST:,} rows"),
    "a search of the audit": ("docs/pages.md", f"the newest {audit_admin.SEARCHED:,}"),
    "a page of the API": ("docs/api.md", f"more than {MAX_PAGE} is taken as {MAX_PAGE}"),
    "htmx": ("docs/pages.md", f"htmx {version_of('static/js/vendor/htmx.min.js')}"),
    "how long snapshots are kept": ("docs/monitoring.md", f"Snapshots are kept for {series.RAW_DAYS} days"),
    "how long alerts are kept": ("docs/alerts.md", f"their messages are kept for {alerts.KEPT.days} days"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_document_says_what_the_code_does(claim):
    document, sentence = CLAIMS[claim]
    assert sentence in text_of(document)


def test_how_often_the_pages_ask_again():
    """All of the intervals stand in one sentence."""
    sentence = re.search(r"ask for themselves again \(([^)]*)\)", text_of("docs/pages.md"))[1]
    told = {int(number) for number in re.findall(r"(\d+) s\b", sentence)} | (
        {1} if "every second" in sentence else set()
    )
    assert told == polls()


def test_every_default_rule_has_its_row():
    """With its metric; rows may hold several rules."""
    page = (ROOT / "docs" / "alerts.md").read_text()
    assert {rule.metric for rule in DEFAULTS} - set(re.findall(r"`([a-z_]+)`", page)) == set()
