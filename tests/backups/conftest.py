"""Two states of one installation, whose database, keys and configuration don't fit each other's."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backups.place import Place

SAW = {"fault": "None", "versions": [1], "secrets": {"first": "value of the first"}, "toml": "# first\n"}
SEES = {
    "fault": "None",
    "versions": [2],
    "secrets": {"first": "value of the first", "second": "value of the second"},
    "toml": "# second\n",
}


@dataclass(frozen=True)
class Two:
    """``home`` is as it is now, ``archive`` of what it was; ``was`` and ``now`` are what one sees in either."""

    home: Place
    archive: Path
    was: dict[str, Any]
    now: dict[str, Any]


@pytest.fixture(scope="session")
def mould(tmp_path_factory) -> Two:
    folder = tmp_path_factory.mktemp("zcm")
    home = Place(folder / "home").bootstrap()
    home.put("first", "value of the first")
    (home.folder / "platform.toml").write_text("# first\n")
    archive = home.backup("--output", str(folder / "archives"))
    home.put("second", "value of the second")
    (home.folder / "platform.toml").write_text("# second\n")
    home.do("rotate-key")
    home.do("rotate-key", "--remove", "1", "--yes")
    assert home.look() == SEES
    return Two(home, archive, SAW, SEES)


@pytest.fixture
def two(mould, tmp_path) -> Two:
    """A copy of it, for one test."""
    archive = tmp_path / "archives" / mould.archive.name
    archive.parent.mkdir(mode=0o700)
    shutil.copy(mould.archive, archive)
    return Two(mould.home.copied(tmp_path / "home"), archive, mould.was, mould.now)


def error_of(done) -> str:
    """The type of the error that a command told with ``--json``."""
    return json.loads(done.stdout)["error"]["type"]
