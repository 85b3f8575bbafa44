"""The catalogue holds every text of the pages: what a template or a page says has a translation."""

from __future__ import annotations

import gettext
import re
from decimal import Decimal

import pytest
from django.forms.utils import pretty_name
from django.utils import translation

from accounts.account_pages import KeyForm as ApiKeyForm
from accounts.permissions import ABILITIES
from audit.actions import ACTIONS
from audit.services import OUTCOMES
from audit.words import LABELS
from monitoring.admin.notifiers import NotifierForm
from monitoring.alerting.machine import Notice
from monitoring.alerting.models import Delivery, Severity
from monitoring.alerting.notifiers import known_kinds
from tenants import words
from tenants.admin.actions import VERBS, DeleteForm, ReactivateForm, ResizeForm, SuspendForm
from tenants.admin.configuration import ConfigurationForm
from tenants.channels import CHANNELS
from tenants.pages import configuration, members
from tenants.pages.bars import cores
from tenants.states import Egress, Health, HoldKind, Reason, RunKind, RunStatus, Status, StepStatus
from tests.architecture import ROOT
from tests.pages import table
from tests.pages.conftest import browser

CATALOGUE = ROOT / "locale" / "pt_BR" / "LC_MESSAGES"
SAID = re.compile(r'\{%\s*trans\s+"([^"]*)"|(?:\b_|gettext_lazy)\(\s*"((?:[^"\\]|\\.)*)"')
COUNTED = re.compile(r'\bngettext\(\s*"([^"]*)",\s*"([^"]*)"')
BLOCK = re.compile(r"\{%\s*blocktrans[^%]*%\}(.*?)\{%\s*endblocktrans", re.DOTALL)
PYTHON = (
    *("tenants/pages", "zcplatform/pages", "monitoring/alerting/pages", "monitoring/pages.py", "tenants/words.py"),
    "audit/words.py",
    *("tenants/admin/configuration.py", "tenants/admin/channels.py", "tenants/admin/actions.py"),
)
ENGLISH = {"admin", "mail", "api_docs.html", "_api_fields.html", "_token.html"}
"""What is for operators and programmers, and mail: nobody knows the language of an address."""
PLAIN = {"UTC", "MB", "API", "name@example.com"}
ATTRIBUTES = re.compile(r'(?:placeholder|aria-label|title|alt)="([^"]*)"')


def templates():
    """Those that everybody may see."""
    return [path for path in (ROOT / "templates").rglob("*.html") if not ENGLISH & {*path.parts}]


def sources():
    found = [path for name in PYTHON for path in [ROOT / name, *(ROOT / name).rglob("*.py")] if path.is_file()]
    return [*templates(), *found]


def said():
    """Every text that is marked, by the file that says it."""
    found = {}
    for path in sources():
        text = path.read_text()
        for plain, called in SAID.findall(text):
            found[plain or called] = path.name
        for forms in COUNTED.findall(text):
            found |= dict.fromkeys(forms, path.name)
        for block in BLOCK.findall(text):
            for form in re.split(r"\{%\s*plural\s*%\}", block):
                found[re.sub(r"\{\{\s*(\w+)\s*\}\}", r"%(\1)s", form)] = path.name
    return found


def registered():
    """Texts that reach the pages out of a registry or a form, where nothing marks them."""
    found = {*ACTIONS.values(), *words._HEADLINES.values(), *words._NEXT_STEPS.values(), *words._BY_STATUS.values()}
    found |= {*members.ABOUT.values(), *configuration.FIELDS.values(), *LABELS, *OUTCOMES, *ABILITIES.values()}
    for verb in VERBS.values():
        found |= {verb.label, verb.done, *verb.notes}
    for kind in [*CHANNELS.values(), *known_kinds()]:
        found |= {getattr(kind, "help", "")} | {text for field in kind.fields for text in (field.label, field.help)}
    for form in (ConfigurationForm, SuspendForm, ReactivateForm, ResizeForm, DeleteForm, NotifierForm, ApiKeyForm):
        for name, field in form.base_fields.items():
            found |= {str(field.label or pretty_name(name)), str(field.help_text)}
    for choices in (Status, Health, RunStatus, StepStatus, Severity, Delivery.State, Notice):
        found |= {*choices.values}
    return found | {str(label) for choices in (RunKind, Reason, HoldKind, Egress) for label in choices.labels} - {"—"}


def bare(text):
    """What a template says without marking it: words between tags, and in attributes that are read out."""
    for kind in ("comment", "blocktrans"):
        text = re.sub(rf"\{{%\s*{kind}.*?end{kind}\s*%\}}", "", text, flags=re.DOTALL)
    text = re.sub(r"<(pre|code|script)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "\n", text, flags=re.DOTALL)
    parts = [*re.split(r"\n", re.sub(r"<[^>]*>|&\w+;", "\n", text)), *ATTRIBUTES.findall(text)]
    found = [re.sub(r"^[\W_]+|[\W_]+$", "", part) for part in parts]
    return [part for part in found if re.search(r"[A-Za-z]{2}", part) and part not in PLAIN]


def catalogue():
    """msgid to msgstr of the compiled catalogue, which is what the pages read."""
    with (CATALOGUE / "django.mo").open("rb") as file:
        return gettext.GNUTranslations(file)._catalog


def entries(source):
    """msgid and the translations of each entry of a ``.po``, and whether it is marked fuzzy; the header is left out."""
    for block in source.strip().split("\n\n")[1:]:
        joined = re.sub(r'"\n"', "", block)
        name = re.search(r'^msgid "(.*)"$', joined, re.MULTILINE)
        yield name and name[1], re.findall(r'^msgstr(?:\[\d\])? "(.*)"$', joined, re.MULTILINE), "fuzzy" in block


def unfinished(source):
    return [name for name, texts, fuzzy in entries(source) if not texts or not all(texts) or fuzzy]


def test_every_text_of_the_pages_is_translated():
    known, texts = catalogue(), said()
    known |= {key[0]: value for key, value in known.items() if isinstance(key, tuple) and key[1] == 0}
    plurals = re.findall(r'^msgid_plural "(.*)"$', (CATALOGUE / "django.po").read_text(), re.MULTILINE)
    assert len(texts) > 450
    assert {text: name for text, name in texts.items() if text not in known and text not in plurals} == {}


def test_every_text_out_of_a_registry_is_translated():
    texts = registered() - {""}
    assert len(texts) > 250
    assert texts - {*catalogue()} == set()


def test_no_translation_is_missing_or_fuzzy():
    assert unfinished((CATALOGUE / "django.po").read_text()) == []


def test_a_missing_and_a_fuzzy_translation_are_seen():
    head = 'msgid ""\nmsgstr ""\n"Language: pt_BR\\n"\n\n'
    good, none = 'msgid "a"\nmsgstr "b"\n\n', 'msgid "c"\nmsgstr ""\n\n'
    fuzzy = '#, fuzzy\nmsgid "d"\nmsgstr "e"\n\n'
    half = 'msgid "f"\nmsgid_plural "g"\nmsgstr[0] "h"\nmsgstr[1] ""\n'
    assert unfinished(head + good + none + fuzzy + half) == ["c", "d", "f"]


def test_no_template_for_customers_says_a_word_without_marking_it():
    found = {str(path.relative_to(ROOT)): bare(path.read_text()) for path in templates()}
    assert len(found) > 50
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_an_unmarked_word_is_seen():
    text = '<p>{% trans "Fine" %} {{ x }} not UTC</p><a title="Shown">{% blocktrans %}well{% endblocktrans %}</a>'
    assert bare(text) == ["not UTC", "Shown"]


@pytest.mark.parametrize("path", ["/login", "/account", "/nothing-here", "/alerts"])
def test_the_pages_outside_a_tenant_speak_portuguese_too(stage, path):
    client = browser() if path == "/login" else browser(stage.people["owner"])
    page = client.get(path, headers={"Accept-Language": "pt-BR"}).content.decode()
    assert {"/login": "Enviar código", "/account": "Sessões", "/alerts": "Alertas"}.get(path, "Não há nada") in page


def test_a_state_is_told_in_portuguese_as_a_whole(stage):
    reader = {"Accept-Language": "pt-BR"}
    page = browser(stage.people["owner"]).get(table.of(stage.tenant, "overview"), headers=reader).content.decode()
    assert "Em execução há menos de um minuto" in page
    assert ">em execução</span>" in page
    assert " ago" not in page


@pytest.mark.parametrize(
    ("number", "english", "portuguese"),
    [
        (1, "1 core", "1 núcleo"),
        (Decimal("0.25"), "0.25 cores", "0,25 núcleos"),
        (Decimal("4.00"), "4 cores", "4 núcleos"),
    ],
)
def test_cores_are_counted_in_both_languages(number, english, portuguese):
    assert cores(number) == english
    with translation.override("pt-br"):
        assert cores(number) == portuguese


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
