"""Commands of the documents, as they stand there: every one is understood by the program, and the runbook's are done,
one block after the other, on an installation that runs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap

import httpx
import pytest
from django.core.management import get_commands, load_command_class

from tests import documents, pasted
from tests.architecture import ROOT
from tests.test_docs import name_of
from tests.zcplatform.serving import Home, wait_for

INVENTED = {"echo2": "demo"}  # the agent kind that the recipe makes
RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"


def refusal(words: list[str], whole: bool) -> str:
    """What the program's own parser says against the call; nothing for one that it understands. One that is not
    ``whole`` is named in a sentence and may lack what it needs."""
    name = words[0].replace("-", "_")
    if name.startswith("__") or name in ("runserver", "shell"):
        return ""
    if name not in get_commands():
        return f"there is no command {words[0]}"
    parser = load_command_class(get_commands()[name], name).create_parser("zcplatform", name)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args([INVENTED.get(word, word) for word in words[1:]])
    except (SystemExit, Exception) as error:
        text = said.getvalue() or str(error)
        fine = getattr(error, "code", 1) == 0 or (not whole and "required" in text)
        return "" if fine else f"{' '.join(words)}: {text}"
    return ""


@pytest.mark.parametrize("path", documents.documents(), ids=name_of)
def test_every_command_of_a_document_is_understood(path):
    assert [said for call in pasted.commands(path.read_text()) if (said := refusal(*call))] == []


@pytest.mark.parametrize("path", documents.documents(), ids=name_of)
def test_every_target_of_make_is_there(path):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert pasted.targets(path.read_text()) - known == set()


def test_commands_are_found_and_a_wrong_one_is_seen():
    block = "A=1 zcplatform backup --keep 3 --output x &\n.venv/bin/python manage.py serv   # so\nzcplatform stop"
    text = f"```\n{block}\n```\n`zcplatform stop a b`, `zcplatform restore`"
    found = list(pasted.commands(text))
    assert [words for words, _ in found] == [
        *(["backup", "--keep", "3", "--output", "x"], ["serv"], ["stop"]),
        *(["stop", "a", "b"], ["restore"]),
    ]
    assert [bool(refusal(*call)) for call in found] == [False, True, True, True, False]
    assert sum(len(list(pasted.commands(path.read_text()))) for path in documents.documents()) > 50
    assert pasted.targets("```\nmake nothing\n```\n`make demo CHECK=1`") == {"nothing", "demo"}


# --- the runbook, done -------------------------------------------------------------------------------------

# Stands in for the programs of a host that the tests' machine may lack, or that would show another one's state.
SYSTEMCTL = """
import os, signal, subprocess, sys, time, urllib.request
verb, unit = sys.argv[1:3]
pid, log = os.environ["UNIT_PID"], os.environ["UNIT_LOG"]
if unit == "zcplatform" and verb == "stop":
    number = int(open(pid).read())
    os.kill(number, signal.SIGTERM)
    while os.path.exists(f"/proc/{number}") and open(f"/proc/{number}/stat").read().split(") ")[1][0] != "Z":
        time.sleep(0.1)
elif unit == "zcplatform" and verb == "start":
    argv = [sys.executable, "-m", "zcplatform", "serve"]
    child = subprocess.Popen(argv, stdout=open(log, "a"), stderr=subprocess.STDOUT, start_new_session=True)
    open(pid, "w").write(str(child.pid))
    while child.poll() is None:
        try:
            urllib.request.urlopen(os.environ["UNIT_URL"] + "/readyz", timeout=5)
            break
        except OSError:
            time.sleep(0.2)
    sys.exit(child.poll() or 0)
"""
# Blocks that are no commands for the shell of the platform's host.
NO_COMMANDS = ("15 3 * * * rsync",)
# What a young installation says to a command of the runbook instead of doing it.
YOUNG = {"audit-archive": "No row of the audit is that old."}


@pytest.fixture
def host(tmp_path):
    """An installation with the tenant ``acme``, its unit, and a shell that has the runbook's programs."""
    backups = tmp_path / "backups"
    home = Home(tmp_path / "home", ROUTER="direct")
    home.env["ZCPLATFORM_BACKUP_DIR"] = str(backups)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (tmp_path / ".curlrc").write_text("fail\nshow-error\nsilent\n")  # so that a refusal is one to the shell
    scripts = {
        "zcplatform": f'#!/bin/sh\nexec {sys.executable} -m zcplatform "$@"\n',
        "systemctl": f"#!{sys.executable}\n{SYSTEMCTL}",
        "journalctl": "#!/bin/sh\nexit 0\n",
        "docker": "#!/bin/sh\nexit 0\n",
    }
    for name, text in scripts.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    home.env |= {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "CURL_HOME": str(tmp_path),
        "UNIT_PID": str(tmp_path / "pid"),
        "UNIT_LOG": str(tmp_path / "serve.log"),
        "UNIT_URL": f"http://127.0.0.1:{home.env['ZCPLATFORM_PORT']}",
    }
    shell(home, "systemctl start zcplatform")
    try:
        shell(home, "zcplatform provision Acme --agent demo")
        yield home
    finally:
        shell(home, "zcplatform teardown --yes; systemctl stop zcplatform")


def shell(home, text):
    """What a person sees who pastes ``text``: the whole output, and the commands that ended with an error."""
    script = f"trap 'echo \"FAILED $?: $BASH_COMMAND\"' ERR\n{text}"
    argv = ["bash", "-c", script]
    done = subprocess.run(argv, env=home.env, cwd=home.folder, capture_output=True, text=True, timeout=300)
    failed = re.findall(r"^FAILED (.*)$", done.stdout, re.MULTILINE)
    return done.stdout + done.stderr, failed


def key_of_an_admin(home):
    code = """
        from accounts import api_keys
        from accounts.models import User
        from tenants.models import Tenant
        from zcplatform.lib.actors import OPERATOR
        user = User.objects.get(email="ops@example.test")
        key = api_keys.create(user, actor=OPERATOR, name="t", scopes=["admin"])[1].reveal()
        print(key, Tenant.objects.get().public_id)
    """
    done = home.manage("shell", "-v0", "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-2:]


def filled(text, home, tenant):
    """The reader's own names in the places of the runbook's."""
    backups = home.env["ZCPLATFORM_BACKUP_DIR"]
    archives = sorted(os.listdir(backups)) if os.path.isdir(backups) else []
    archives = [name for name in archives if name.startswith("zcplatform-backup-")]
    names = {
        "https://agents.example.com": home.env["UNIT_URL"],
        "http://127.0.0.1:8080": home.env["UNIT_URL"],
        "/tenants/ID/": f"/tenants/{tenant}/",
        "/var/backups/zcplatform": backups,
        "/var/lib/zcplatform": str(home.folder),
        "you@example.com": "ops@example.test",
        "zeroclaw status": "python3 --version",
        "--archive FILE": f"--archive {backups}/{archives[-1] if archives else 'FILE'}",
    }
    for name, value in names.items():
        text = text.replace(name, value)
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_block_of_the_runbook_can_be_pasted(host):
    key, tenant = key_of_an_admin(host)
    host.env["TOKEN"] = key
    headers = {"Authorization": f"Bearer {key}"}

    def settled():
        status = httpx.get(f"{host.env['UNIT_URL']}/api/tenants/{tenant}/status", headers=headers, timeout=30).json()
        return status["run"] is None

    done = 0
    for block in pasted.blocks(RUNBOOK.read_text()):
        if block.startswith(NO_COMMANDS):
            continue
        wait_for(settled, "no run is under way")
        shell(host, "zcplatform start acme")
        said, failed = shell(host, filled(block, host, tenant))
        left = [line for line in failed if not any(name in line and text in said for name, text in YOUNG.items())]
        assert left == [], f"{block}\n{said}"
        done += 1
    assert done >= 12
    said, failed = shell(host, "zcplatform chat acme Hello")
    assert failed == [], said
