from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from tests import processes
from vault import keyfile, keyring, services
from vault.cipher import KEY_BYTES
from vault.models import KeyVersion, Secret
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.failpoints import FailpointError, armed
from zcplatform.lib.private_files import replace_private


def refused(act=keyring.load) -> str:
    with pytest.raises(Misconfigured) as error:
        act()
    return error.value.type


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def without_the_last_byte_of_the_key(path: Path) -> None:
    data = json.loads(path.read_bytes())
    key = base64.b64decode(data["keys"][0]["key"])[:-1]
    data["keys"][0]["key"] = base64.b64encode(key).decode()
    path.write_text(json.dumps(data))


def with_keys(path: Path, change) -> None:
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


DAMAGE = {
    "missing": (Path.unlink, "vault_key_missing"),
    "empty": (lambda path: rewrite(path, b""), "vault_key_damaged"),
    "31 bytes": (without_the_last_byte_of_the_key, "vault_key_short"),
    "bad JSON": (lambda path: rewrite(path, b"{'keys': []}"), "vault_key_damaged"),
    "not UTF-8": (lambda path: rewrite(path, b"\xff\xfe\x00"), "vault_key_damaged"),
    "a list": (lambda path: rewrite(path, b"[]"), "vault_key_damaged"),
    "a number": (lambda path: rewrite(path, b"3"), "vault_key_damaged"),
    "no keys": (lambda path: with_keys(path, lambda data: data["keys"].clear()), "vault_key_damaged"),
    "a version twice": (
        lambda path: with_keys(path, lambda data: data["keys"].extend(data["keys"])),
        "vault_key_damaged",
    ),
    "version 0": (lambda path: with_keys(path, lambda data: data["keys"][0].update(version=0)), "vault_key_damaged"),
    "version true": (
        lambda path: with_keys(path, lambda data: data["keys"][0].update(version=True)),
        "vault_key_damaged",
    ),
    "a key of no text": (lambda path: with_keys(path, lambda data: data["keys"][0].update(key=3)), "vault_key_damaged"),
    "no time": (lambda path: with_keys(path, lambda data: data["keys"][0].update(created_at="?")), "vault_key_damaged"),
    "a newer format": (lambda path: with_keys(path, lambda data: data.update(format=2)), "vault_key_damaged"),
    "another algorithm": (
        lambda path: with_keys(path, lambda data: data.update(algorithm="rot13")),
        "vault_key_damaged",
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_i5_a_bad_key_file_is_refused_and_never_made_anew(vault, put, how):
    put()
    damage, type = DAMAGE[how]
    damage(vault)
    before = vault.read_bytes() if vault.exists() else None
    assert refused() == type
    assert refused(services.verify_keyring) == type
    assert refused(services.create_keyring) == type
    assert (vault.read_bytes() if vault.exists() else None) == before


def test_i5_a_key_file_cut_at_any_length_is_refused(vault, put):
    put()
    content = vault.read_bytes()
    for length in range(len(content) - 2):  # the last byte is a line break
        vault.write_bytes(content[:length])
        assert refused() in ("vault_key_damaged", "vault_key_short")
    vault.write_bytes(content)
    services.verify_keyring()


def test_i5_a_lost_file_is_not_made_anew_while_only_the_mirror_remembers_a_key(vault):
    vault.unlink()
    assert refused(services.create_keyring) == "vault_key_missing"
    assert not vault.exists()


def test_i5_no_new_key_for_secrets_whose_mirror_is_gone(vault, put):
    put()
    KeyVersion.objects.all().delete()
    assert refused(services.verify_keyring) == "vault_key_foreign"
    vault.unlink()
    assert refused(services.create_keyring) == "vault_key_missing"


def test_a_first_bootstrap_makes_one_key_and_a_second_changes_nothing(db, key_path):
    assert services.create_keyring() is True
    content = key_path.read_bytes()
    assert services.create_keyring() is False
    assert key_path.read_bytes() == content
    assert KeyVersion.objects.count() == 1
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    assert len(keyring.load().newest.secret) == KEY_BYTES


def test_a_bootstrap_killed_between_file_and_database_is_finished_by_the_next(db, key_path):
    keyring.create(keyfile.Keyring((keyfile.new_key(1, "2030-01-01T00:00:00+00:00"),)))
    assert services.create_keyring() is False
    assert KeyVersion.objects.get().fingerprint == keyring.load().newest.fingerprint


@pytest.mark.django_db(transaction=True)
def test_bootstraps_at_once_agree_on_one_key(key_path):
    children = [processes.start(services.create_keyring) for _ in range(4)]
    assert [processes.wait(child) for child in children] == [0, 0, 0, 0]
    assert KeyVersion.objects.count() == 1
    services.verify_keyring()


def test_i6_a_loose_mode_is_refused(vault):
    for mode in (0o644, 0o640, 0o604, 0o660, 0o700 | 0o001):
        vault.chmod(mode)
        assert refused() == "vault_key_loose"
    vault.chmod(0o400)
    keyring.load()


@pytest.mark.root
def test_i6_a_foreign_owner_is_refused(vault):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(vault, 4_321, -1)
    assert refused() == "vault_key_loose"


def test_i6_a_link_is_refused_even_to_a_good_file(vault):
    real = vault.rename(vault.with_name("real.json"))
    vault.symlink_to(real)
    assert refused() == "vault_key_loose"
    real.unlink()
    assert refused(services.create_keyring) == "vault_key_loose"


def test_i6_a_folder_that_others_can_write_is_refused(vault):
    for mode in (0o770, 0o707):
        vault.parent.chmod(mode)
        assert refused() == "vault_key_loose"


def test_i6_it_is_looked_at_on_every_read_not_only_the_first(vault, put, read):
    secret = put()
    vault.chmod(0o644)
    assert refused(lambda: read(secret)) == "vault_key_loose"


def test_a_foreign_key_file_is_refused_and_nothing_is_written_with_it(vault, put):
    put()
    replace_private(vault, keyfile.dump(keyfile.Keyring((keyfile.new_key(1, "2030-01-01T00:00:00+00:00"),)), ""))
    assert refused(services.verify_keyring) == "vault_key_foreign"
    assert refused(put) == "vault_key_foreign"
    assert Secret.objects.count() == 1


def test_a_key_file_older_than_the_database_is_refused(vault):
    old = vault.read_bytes()
    services.rotate()
    replace_private(vault, old)
    assert refused(services.verify_keyring) == "vault_key_incomplete"


def test_a_check_value_that_does_not_open_is_foreign(vault):
    KeyVersion.objects.update(check_value="v1:x:y")
    assert refused(services.verify_keyring) == "vault_key_foreign"


def test_without_bootstrap_nothing_can_be_stored(db, key_path, put):
    assert refused(put) == "vault_key_missing"
    assert refused(services.rotate) == "vault_key_missing"


@pytest.mark.parametrize("point", ["private_files.written", "private_files.replaced"])
def test_a_failed_write_leaves_the_old_or_the_new_file_and_nothing_else(vault, point):
    before = keyring.load()
    with armed(f"{point}=raise"), pytest.raises(FailpointError):
        keyring.save(before.appended("2030-01-01T00:00:00+00:00"))
    assert len(keyring.load().keys) == (1 if point.endswith("written") else 2)
    assert {path.name for path in vault.parent.iterdir()} == {"vault.json", "vault.json.lock"}


class TestPassphrase:
    WORDS = "correct horse battery staple"

    @pytest.fixture
    def wrapped(self, settings, vault):
        settings.VAULT_PASSPHRASE = self.WORDS
        services.rotate()
        return vault

    def test_the_next_write_wraps_the_file_and_nothing_else_changes(self, vault, put, read, settings):
        secret = put()
        settings.VAULT_PASSPHRASE = self.WORDS
        assert services.status()["wrapped"] is False
        keys = [keyring.load().newest.secret]
        services.rotate()
        keys.append(keyring.load().newest.secret)
        assert services.status()["wrapped"] is True
        assert read(secret) == "sk-0123456789abcdef"
        content = vault.read_bytes()
        assert not any(base64.b64encode(key) in content for key in keys)

    def test_a_wrong_or_missing_passphrase_has_a_name(self, wrapped, settings):
        settings.VAULT_PASSPHRASE = "wrong"
        assert refused() == "vault_passphrase_wrong"
        settings.VAULT_PASSPHRASE = ""
        assert refused() == "vault_passphrase_missing"
        settings.VAULT_PASSPHRASE = self.WORDS
        services.verify_keyring()

    @pytest.mark.parametrize(
        "change",
        [
            {"memlimit": 1 << 50},
            {"memlimit": "1"},
            {"opslimit": 1 << 30},
            {"opslimit": 0},
            {"kdf": "none"},
            {"salt": "AAAA"},
            {"box": ""},
            {"box": None},
        ],
    )
    def test_a_damaged_wrapping_is_refused_before_it_costs_anything(self, wrapped, change):
        data = json.loads(wrapped.read_bytes())
        data["wrapped"].update(change)
        wrapped.write_text(json.dumps(data))
        assert refused() == "vault_key_damaged"
