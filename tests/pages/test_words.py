"""The catalogue holds every text of the pages: what a template or a page says has a translation."""

from __future__ import annotations

import gettext
import re

from tests.architecture import ROOT

CATALOGUE = ROOT / "locale" / "pt_BR" / "LC_MESSAGES"
SAID = re.compile(r'\{%\s*trans\s+"([^"]*)"|(?:\b_|gettext_lazy)\(\s*"((?:[^"\\]|\\.)*)"')
BLOCK = re.compile(r"\{%\s*blocktrans[^%]*%\}(.*?)\{%\s*endblocktrans", re.DOTALL)


def said():
    """Every text that is marked, by the file that says it."""
    found = {}
    folders = ("templates", "tenants/pages", "zcplatform/pages", "monitoring/alerting/pages")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*") if path.suffix in (".html", ".py")]
    for path in [*files, ROOT / "monitoring" / "pages.py"]:
        text = path.read_text()
        for plain, called in SAID.findall(text):
            found[plain or called] = path.name
        for block in BLOCK.findall(text):
            found[re.sub(r"\{\{\s*(\w+)\s*\}\}", r"%(\1)s", block)] = path.name
    return found


def catalogue():
    """msgid to msgstr of the compiled catalogue, which is what the pages read."""
    with (CATALOGUE / "django.mo").open("rb") as file:
        return gettext.GNUTranslations(file)._catalog


def test_every_text_of_the_pages_is_translated():
    known, texts = catalogue(), said()
    assert len(texts) > 250
    assert {text: name for text, name in texts.items() if text not in known} == {}


def test_the_compiled_catalogue_is_of_the_source():
    source = (CATALOGUE / "django.po").read_text()
    pairs = re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"$', source, re.MULTILINE)
    known = catalogue()
    plain = [(a.replace('\\"', '"'), b.replace('\\"', '"')) for a, b in pairs]
    assert len(plain) > 250
    assert all(known[a] == b for a, b in plain)


def test_a_translation_keeps_every_placeholder():
    names = re.compile(r"%\(\w+\)s|%s")
    for text, translated in catalogue().items():
        if isinstance(text, str) and text:
            assert sorted(names.findall(text)) == sorted(names.findall(translated)), text
