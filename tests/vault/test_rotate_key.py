from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests import processes
from tests.postgres import database_url
from vault import keyring
from vault.models import Secret

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> tuple[str, CommandError | None]:
    out = StringIO()
    try:
        call_command("rotate_key", *arguments, stdout=out, stderr=StringIO())
    except CommandError as error:
        return out.getvalue(), error
    return out.getvalue(), None


def test_it_rotates_and_says_so(vault, put):
    put()
    assert run() == ("Rotated to v2: 1 secret re-encrypted\n", None)
    assert json.loads(run("--json")[0]) == {
        "version": 3,
        "resumed": False,
        "reencrypted": 1,
        "retired": [2],
        "unreadable": [],
    }


def test_the_status_is_shown_and_changes_nothing(vault, put):
    put()
    run()
    out, error = run("--status")
    assert error is None
    assert [line.split()[0] for line in out.splitlines()] == ["v1", "v2"]
    assert "0 secrets  retired" in out and "1 secret  in use" in out
    assert json.loads(run("--status", "--json")[0])["current"] == 2


def test_a_retired_version_is_removed_only_on_request_and_with_a_yes(vault, put):
    put()
    assert "rotate first" in str(run("--remove", "1", "--yes")[1])
    run()
    assert run("--remove", "1")[1].returncode == 2
    assert run("--remove", "1", "--yes") == ("v1 removed\n", None)
    assert [key.version for key in keyring.load().keys] == [2]


def test_a_second_one_at_once_exits_with_3(vault):
    with keyring.exclusive():
        assert run()[1].returncode == 3


def test_a_bad_key_file_exits_with_1(vault):
    vault.chmod(0o644)
    error = run()[1]
    assert error.returncode == 1 and "has mode 0644; run: chmod 600" in str(error)


def test_secrets_that_do_not_open_exit_with_4(vault, put):
    secret = put()
    Secret.objects.update(owner="other")
    error = run()[1]
    assert error.returncode == 4 and str(secret.public_id) in str(error)


@pytest.mark.django_db(transaction=True)
def test_a_killed_command_is_finished_by_the_next_one(vault, put):
    secrets = [put(f"value-number-{number:06}") for number in range(3)]
    connections.close_all()
    environment = os.environ | {
        "ZCPLATFORM_VAULT_KEY_FILE": str(vault),
        "ZCPLATFORM_DATABASE_URL": database_url(),
    }
    command = [sys.executable, "manage.py", "rotate_key", "--json"]

    def rotate(failpoint: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=environment | {"ZC_FAILPOINT": failpoint}, capture_output=True, text=True
        )

    assert rotate("vault.rotate.mirrored=kill").returncode == processes.KILLED
    done = rotate()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] is True
    assert set(Secret.objects.values_list("key_version", flat=True)) == {2}
    assert Secret.objects.count() == len(secrets)
