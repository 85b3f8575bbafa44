"""The look, as far as it can be counted."""

import re
from pathlib import Path

import pytest
from django.template.loader import render_to_string

from tenants.states import RunStatus, Status, StepStatus

ROOT = Path(__file__).resolve().parents[2]
TOKENS = (ROOT / "static" / "css" / "tokens.css").read_text()
PARTS = (ROOT / "static" / "css" / "parts.css").read_text()
STATUS = ["green", "blue", "amber", "red", "grey"]
PAIRS = [
    ("text", "page"),
    ("text", "surface"),
    ("muted", "page"),
    ("muted", "surface"),
    ("brand", "page"),
    ("brand", "surface"),
    ("brand", "brand-tint"),
    ("on-brand", "brand"),
    *((name, f"{name}-tint") for name in STATUS),
    *((name, "surface") for name in STATUS),
]


def tokens(scheme):
    light, dark = TOKENS.split("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6});", light))
    return found | (dict(re.findall(r"--([\w-]+): #([0-9a-f]{6});", dark)) if scheme == "dark" else {})


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_can_be_read(scheme, ink, ground):
    found = tokens(scheme)
    assert contrast(found[ink], found[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_edges_of_controls_can_be_seen(scheme):
    found = tokens(scheme)
    assert contrast(found["control"], found["surface"]) >= 3


@pytest.mark.parametrize("status", [*Status.values, ""])
def test_a_status_has_a_word_and_a_shape(status):
    pill = render_to_string("_status_pill.html", {"status": status})
    word = status or "unknown"
    assert pill.strip() == f'<span class="pill pill-{word}">{word}</span>'
    assert f".pill-{word}::before" in PARTS or not status


@pytest.mark.parametrize("status", RunStatus.values)
def test_a_runs_status_has_a_word_and_a_shape(status):
    pill = render_to_string("tenants/_run_pill.html", {"status": status})
    assert pill.strip() == f'<span class="pill pill-run-{status}">{status}</span>'
    assert f".pill-run-{status}::before" in PARTS


@pytest.mark.parametrize("status", StepStatus.values)
def test_a_step_of_the_timeline_has_a_shape(status):
    assert f".timeline .step-{status}::before" in PARTS


TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPT = r"<script(?![^>]*\ssrc=)|\son\w+\s*=|javascript:|https?://"


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.parent.name != "mail"], ids=lambda path: path.name)
def test_templates_have_no_script_or_style_inside(path):
    """The Content-Security-Policy would not run them."""
    assert not re.search(rf"<style|\sstyle=|{SCRIPT}", path.read_text())


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.parent.name == "mail"], ids=lambda path: path.name)
def test_a_mail_loads_nothing_and_runs_nothing(path):
    """Its styles stand in it: programs for mail know no other."""
    assert not re.search(rf"<img|<link|url\(|<script|{SCRIPT}", path.read_text())


def test_styles_load_nothing_from_elsewhere():
    for path in (ROOT / "static").rglob("*.css"):
        assert not re.search(r"https?:|//", re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)), path
