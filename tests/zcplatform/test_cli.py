"""The entry of every command: the version it tells, and errors that come before the command itself."""

from __future__ import annotations

import json

import pytest

from tests.zcplatform.test_bootstrap import Installation
from zcplatform import __version__


@pytest.fixture
def empty(tmp_path):
    """Where nothing was made yet."""
    return Installation(tmp_path / "home")


@pytest.mark.parametrize("argv", [["--version"], ["serve", "--version"]])
def test_the_version_is_the_platforms_and_not_its_frameworks(empty, argv):
    told = empty.run(*argv)
    assert (told.returncode, told.stdout.strip()) == (0, __version__)


def test_before_bootstrap_a_command_says_so_in_one_line(empty):
    told = empty.run("stop", "acme")
    assert (told.returncode, told.stdout) == (1, "")
    line = told.stderr.strip()
    assert line.startswith("CommandError: Not there yet: SECRET_KEY, ")
    assert line.endswith(" Run: zcplatform bootstrap (zcplatform.E001)")
    assert "\n" not in line


@pytest.mark.parametrize("argv", [["stop", "acme"], ["ensure_schedules"]])
def test_before_bootstrap_json_stays_json(empty, argv):
    told = empty.run(*argv, "--json")
    assert told.returncode == 1
    error = json.loads(told.stdout)["error"]
    assert (error["type"], error["details"]) == ("misconfigured", {"checks": ["zcplatform.E001"]})


def test_a_refused_bootstrap_answers_json_with_json(empty):
    told = empty.bootstrap("--json", email="nobody")
    assert told.returncode == 1
    error = json.loads(told.stdout)["error"]
    assert (error["type"], error["message"]) == ("invalid_email", "That is not an e-mail address.")


@pytest.mark.parametrize("command", ["export_openapi_schema", "api_reference"])
def test_a_file_that_cant_be_written_is_told_in_one_line(empty, tmp_path, command):
    told = empty.run(command, "--output", str(tmp_path))
    assert told.returncode == 1
    assert told.stderr.strip() == f"CommandError: {tmp_path}: Is a directory"
