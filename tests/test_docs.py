"""The documents say what is there. Each rule is also fed a planted mistake: a rule that can't fail is none."""

from dataclasses import fields

import pytest

from tests import documents as rules
from tests.architecture import ROOT, product_files, tracked_files
from zcplatform import keys
from zcplatform.platform_toml import PlanLimits, PlatformToml

CONFIGURATION, COMMANDS = ROOT / "docs" / "configuration.md", ROOT / "docs" / "commands.md"
INVENTED = ("echo2", "NNNN", "platform.toml", "vault.json")  # the examples' names, and the reader's own files


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", rules.documents(), ids=name_of)
def test_every_link_leads_somewhere(path):
    assert rules.broken_links(path.read_text(), path) == []


@pytest.mark.parametrize("path", rules.documents(), ids=name_of)
def test_every_file_that_is_named_is_there(path):
    assert rules.absent_paths(path.read_text(), path, invented=INVENTED) == []


def test_a_dead_link_and_an_absent_file_are_seen():
    text = "# A b\n[x](gone.md) [y](#a-b) [z](#c) [w](https://example.test/x) `tenants/gone.py` `tenants/door.py`"
    readme = ROOT / "README.md"
    assert rules.broken_links(text.replace("#a-b", "#map-of-the-repository"), readme) == [
        "README.md: gone.md",
        "README.md: #c",
    ]
    assert rules.absent_paths(text, readme) == ["README.md: tenants/gone.py"]


def settings_in_code():
    source = (ROOT / "zcplatform" / "settings.py").read_text() + (ROOT / "zcplatform" / "keys.py").read_text()
    return rules.settings_read(source.replace("from __future__ import annotations", "")) | dict.fromkeys(keys.NAMES)


def test_every_setting_is_listed_and_no_other():
    listed = {name for name in rules.rows(CONFIGURATION.read_text()) if name == name.upper()}
    assert listed == set(settings_in_code())


def test_every_default_is_the_codes():
    assert list(rules.wrong_defaults(settings_in_code(), rules.rows(CONFIGURATION.read_text()))) == []


def test_a_setting_and_a_default_are_seen():
    read = rules.settings_read('A = env.integer("A", 2)\nB = keys.read("B", X)\nC = env.flag("C", DEBUG)\nD = f("D")')
    assert list(read) == ["A", "B", "C"]
    listed = rules.rows("| name | default |\n| --- | --- |\n| `A` | `3` | x |\n| `C` | `9` | y |")
    assert list(rules.wrong_defaults(read, listed)) == ["A: `3` instead of `2`"]
    assert [rules._shown(v) for v in ("", False, (1, 2), "x", ["a", "b"])] == ["none", "`0`", "`1-2`", "`x`", "`a,b`"]


def test_every_key_of_platform_toml_is_listed():
    text = CONFIGURATION.read_text()
    sections = {f.name: f.default_factory for f in fields(PlatformToml) if f.name != "plans"}
    names = [f"{section}.{f.name}" for section, kind in sections.items() for f in fields(kind)]
    names += [f.name for f in fields(PlanLimits)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_command_is_listed_and_no_other():
    commands = {p.stem for p in product_files() if p.parent.name == "commands" and p.stem != "__init__"}
    assert set(rules.rows(COMMANDS.read_text())) == commands


def asking_commands():
    """As they are typed: with hyphens or underscores."""
    sources = [p for p in product_files() if p.parent.name == "commands" and "self.confirm(" in p.read_text()]
    return {name for path in sources for name in (path.stem, path.stem.replace("_", "-"))}


@pytest.mark.parametrize("path", rules.documents(), ids=name_of)
def test_no_block_can_be_pasted_that_would_ask(path):
    assert rules.unanswered(path.read_text(), asking_commands()) == []


def test_a_question_in_a_block_is_seen():
    assert {"restore", "teardown", "deprovision", "audit-archive", "rotate_secrets"} <= asking_commands()
    inside = "zcplatform restore --undo\nzcplatform restore --archive F --yes\nzcplatform restore-drill"
    text = f"```\n{inside}\n```\nzcplatform restore"
    assert rules.unanswered(text, asking_commands()) == ["zcplatform restore --undo"]


def test_the_map_names_what_is_there_and_every_folder():
    named = rules.mapped((ROOT / "README.md").read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
    tracked = {name_of(path).split("/")[0] for path in tracked_files() if path.parent != ROOT}
    assert {name.split("/")[0] for name in named if "/" in name} == tracked


def test_the_map_is_read():
    text = "## Map of the repository\n\n```\nmanage.py  x\nfixtures/  y\n```\n"
    assert rules.mapped(text) == ["manage.py", "fixtures/"]
