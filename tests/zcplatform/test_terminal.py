"""What an agent or a tenant wrote moves no cursor of the operator's, whichever command prints it."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError, OutputWrapper
from hypothesis import given
from hypothesis import strategies as st

from audit import export
from audit.models import AuditEntry
from backups.telling import Telling
from zcplatform.lib import clock
from zcplatform.lib.commands import PlatformCommand, SafeCommand
from zcplatform.lib.terminal import SafeOutput, visible, visible_json

EVIL = "a\x1b]0;owned\x07\x1b[2J\x1b[8mhidden\rover\x08\x7f\x9b31m\u202eevil\u2066\u2028\u061c\ufeff\ud800\0end"
HARMFUL = set(EVIL) - set("a]0;owned[2J8mhiddenover31mevilend")


def is_harmless(text):
    return not HARMFUL & set(text)


def test_what_is_spelled_out_and_what_is_left():
    assert visible("a\x1b[31m\r\x9b\u202e\ud800") == "a\\x1b[31m\\x0d\\x9b\\u202e\\ud800"
    assert visible("tab\tline\nend\r\nçãé 漢字 🙂 ✓") == "tab\tline\nend\nçãé 漢字 🙂 ✓"


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=50))
def test_any_text_can_be_written_and_json_stays_what_it_was(text):
    visible(text).encode()
    assert is_harmless(visible(text))
    told = visible_json(json.dumps({"x": text}, ensure_ascii=False))
    assert is_harmless(told.replace("\n", ""))
    assert json.loads(told) == {"x": text}


def test_every_command_of_ours_prints_safely():
    ours = {name: app for name, app in get_commands().items() if str(app) in OURS}
    assert len(ours) > 30
    for name, app in ours.items():
        command = load_command_class(app, name)
        assert isinstance(command, SafeCommand), name
        for stream in (command.stdout, command.stderr):
            assert isinstance(stream, SafeOutput), name


OURS = {"accounts", "audit", "vault", "tenants", "backups", "monitoring", "zcplatform"}


class Evil(PlatformCommand):
    requires_system_checks: list[str] = []

    def run(self, **options):
        self.stdout.write(EVIL)
        self.stdout.write(EVIL, self.style.SUCCESS, ending="")
        self.stderr.write(EVIL)
        self.print_json({"x": EVIL})
        raise CommandError(EVIL)


@pytest.mark.parametrize("given_to", ["the constructor", "the call"])
def test_a_command_spells_out_whatever_it_prints_also_on_a_terminal(given_to, monkeypatch):
    out, err = Terminal(), Terminal()
    streams = {"stdout": out, "stderr": err}
    command = Evil(**streams) if given_to == "the constructor" else Evil()
    with pytest.raises(CommandError):
        command.execute(
            no_color=True,
            force_color=False,
            skip_checks=True,
            json=False,
            **(streams if given_to == "the call" else {}),
        )
    assert "hidden" in out.getvalue()
    assert "hidden" in err.getvalue()
    assert is_harmless(out.getvalue().replace("\n", ""))
    assert is_harmless(err.getvalue().replace("\n", ""))


def test_an_error_that_ends_a_command_is_spelled_out_too(monkeypatch):
    err = Terminal()
    command = Evil(stdout=io.StringIO(), stderr=err, no_color=True)
    with pytest.raises(SystemExit):
        command.run_from_argv(["zcplatform", "evil", "--no-color"])
    assert "CommandError" in err.getvalue()
    assert is_harmless(err.getvalue().replace("\n", ""))


def test_colours_are_ours_alone():
    out = Terminal()
    SafeOutput(OutputWrapper(out)).write("\x1b[32mgreen", lambda text: f"\x1b[31m{text}\x1b[0m", ending="")
    assert out.getvalue() == "\x1b[31m\\x1b[32mgreen\x1b[0m"


def test_progress_is_still_rewritten_in_its_line():
    out = Terminal()
    Telling(SafeOutput(OutputWrapper(out)))("copy", 1, 2)
    assert out.getvalue().startswith("\r  copy")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＠"])
def test_no_field_of_an_export_is_a_formula(start):
    row = AuditEntry(id=1, created_at=clock.now(), actor_email=f"{start}cmd|' /C calc'!A0", detail_json="{}")
    assert f"'{start}cmd" in export.as_csv([row])


class Terminal(io.StringIO):
    def isatty(self):
        return True
