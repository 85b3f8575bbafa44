"""A question of a command at a real terminal: only what is typed after it is an answer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap

import pytest

from tests.architecture import ROOT

ASK = textwrap.dedent(
    """
    import os, select, sys
    from zcplatform.lib.commands import PlatformCommand
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    if len(sys.argv) > 1:  # until what was pasted is there
        select.select([0], [], [], 30)
    class Command(PlatformCommand):
        requires_system_checks = []
        def run(self, **options):
            self.confirm("Really?", "acme", yes=False)
            self.stdout.write("done")
    Command(no_color=True).run_from_argv(["zcplatform", "ask"])
    """
)


class Terminal:
    """The other end of a terminal at which the command runs, with ``pasted`` typed before it asks."""

    def __init__(self, pasted=""):
        self.end, theirs = pty.openpty()
        if pasted:
            os.write(self.end, pasted.encode())
        argv = [sys.executable, "-c", ASK, *(["pasted"] if pasted else [])]
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(argv, cwd=ROOT, start_new_session=True, **streams)
        os.close(theirs)
        self.said = ""

    def until(self, text):
        while text not in self.said:
            try:
                self.said += os.read(self.end, 4_096).decode()
            except OSError:  # the command has ended
                break
        assert text in self.said

    def type(self, text):
        os.write(self.end, text.encode())

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture
def terminal(request):
    made = []

    def at(pasted=""):
        made.append(Terminal(pasted))
        return made[-1]

    yield at
    for each in made:
        each.close()


@pytest.mark.timeout(120)
def test_what_was_pasted_before_the_question_is_no_answer(terminal):
    at = terminal("acme\nsystemctl start zcplatform\n")
    at.until("> ")
    at.type("no\n")
    at.until("nothing was changed")
    assert at.process.wait(60) == 1
    assert "done" not in at.said


@pytest.mark.timeout(120)
def test_what_is_typed_after_it_is(terminal):
    at = terminal()
    at.until("> ")
    at.type("acme\n")
    at.until("done")
    assert at.process.wait(60) == 0


@pytest.mark.timeout(120)
def test_a_script_is_not_read_for_an_answer():
    """``ssh host <<EOF`` and ``bash -s``: the lines behind the command are its standard input."""
    done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, input="acme\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
