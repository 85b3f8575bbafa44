from __future__ import annotations

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from vault import checks, keyfile, services
from zcplatform.lib.private_files import replace_private


def found(**how) -> list[str]:
    return [message.id for message in run_checks(tags=["vault"], **how)]


def with_database() -> list[str]:
    return found(databases=["default"])


def for_deployment() -> list[str]:
    return found(include_deployment_checks=True)


def test_a_sound_vault_passes(vault, put):
    put()
    assert with_database() == for_deployment() == []


def test_a_new_installation_passes(db, key_path):
    assert with_database() == for_deployment() == []


def test_before_the_tables_exist_there_is_nothing_to_say(vault, monkeypatch):
    vault.chmod(0o644)
    monkeypatch.setattr(connections["default"].introspection, "table_names", lambda *args: [])
    assert with_database() == []


def loosen(path):
    path.chmod(0o644)


def swap(path):
    replace_private(path, keyfile.dump(keyfile.Keyring((keyfile.new_key(1, "2030-01-01T00:00:00+00:00"),)), ""))


def wrap(path):
    replace_private(path, keyfile.dump(keyfile.Keyring((keyfile.new_key(1, "2030-01-01T00:00:00+00:00"),)), "words"))


@pytest.mark.parametrize(
    ("harm", "database", "deployment"),
    [
        (lambda path: path.unlink(), ["vault.E001"], []),
        (lambda path: path.write_bytes(b""), ["vault.E002"], ["vault.E002"]),
        (loosen, ["vault.E004"], ["vault.E004"]),
        (swap, ["vault.E005"], []),
        (wrap, ["vault.E008"], ["vault.E008"]),
    ],
)
def test_harm_is_found_with_an_id(vault, harm, database, deployment):
    harm(vault)
    assert (with_database(), for_deployment()) == (database, deployment)
    assert found(databases=["default"], include_deployment_checks=True) == database


def test_the_commands_run_them(vault):
    vault.chmod(0o644)
    for arguments in (["--database", "default"], ["--deploy"]):
        with pytest.raises(SystemCheckError, match="chmod 600"):
            call_command("check", *arguments)
    call_command("check")
    call_command("makemigrations", "--check", "--dry-run", verbosity=0, skip_checks=False)


def test_every_type_of_misconfiguration_has_an_id():
    from pathlib import Path

    source = "".join((Path(services.__file__).parent / name).read_text() for name in ("keyring.py", "mirror.py"))
    source += Path(keyfile.__file__).read_text()
    types = {part.split('"')[0] for part in source.split('"') if part.startswith(("vault_key_", "vault_passphrase_"))}
    assert types and types == set(checks._FINDINGS)


def test_a_failing_check_stops_a_command_that_asks_for_it(vault):
    vault.unlink()
    with pytest.raises((SystemCheckError, CommandError)):
        call_command("migrate", skip_checks=False, verbosity=0)
