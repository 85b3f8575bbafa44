"""The suite's databases: migrated once a run, and copied for each worker and each world of the faults."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.db import connections


def copy_what_is_migrated(patch: pytest.MonkeyPatch) -> None:
    """From now on Django's own way to make a test database begins with a copy; its ``migrate`` finds nothing to do."""
    creation = type(connections["default"].creation)
    make_empty = creation._create_test_db

    def make(self: Any, *args: Any, **options: Any) -> str:
        test = self.connection.settings_dict["TEST"]
        if test["NAME"] == _name(self):
            return str(make_empty(self, *args, **options))
        template = _template(self)
        if self.connection.vendor != "sqlite":
            test["TEMPLATE"] = template
        name = str(make_empty(self, *args, **options))
        if self.connection.vendor == "sqlite":
            shutil.copyfile(template, name)
        return name

    patch.setattr(creation, "_create_test_db", make)


def _folder() -> Path:
    return Path(os.environ["ZC_TEST_RUN"])


def _name(creation: Any) -> str:
    return str(_folder() / "migrated.db") if creation.connection.vendor == "sqlite" else "test_migrated"


def _template(creation: Any) -> str:
    """What the copies are made of. Whoever is first makes it, and the others wait."""
    name, done = _name(creation), _folder() / "migrated"
    with (_folder() / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _migrate(creation, name)
            done.touch()
    return name


def _migrate(creation: Any, name: str) -> None:
    settings = creation.connection.settings_dict
    before, settings["TEST"] = (settings["NAME"], settings["TEST"]), {**settings["TEST"], "NAME": name}
    try:
        creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    finally:
        creation.connection.close()
        settings["NAME"], settings["TEST"] = before
