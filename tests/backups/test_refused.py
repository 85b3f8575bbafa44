"""Archives that are not what they should be: each is refused by name, and nothing has changed."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile

import pytest

from backups import archive, manifest
from backups.errors import ArchiveRefused
from tests.backups.conftest import error_of
from vault import keyfile, signing
from zcplatform.lib.redact import SecretStr  # noqa: F401 - the vault's own door


class Forged:
    """An archive taken apart, to be put together with one thing wrong."""

    def __init__(self, source, folder):
        self.members, self.order = {}, []
        with tarfile.open(source) as tar:
            for info in tar:
                self.order.append(info.name)
                self.members[info.name] = tar.extractfile(info).read()
        self.path = folder / source.name
        self.extra, self.links = [], {}

    def about(self):
        return json.loads(self.members["manifest.json"])

    def describe(self, **changes):
        """A manifest that fits the members and is signed with the vault key among them."""
        data = self.about()
        for item in data["members"]:
            content = self.members[item["name"]]
            item.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        made = manifest.Manifest(
            **{**data, **changes, "members": [manifest.Member(**m) for m in changes.get("members", data["members"])]}
        )
        ring = keyfile.parse(self.members["keys/vault.json"], "")
        signed = {**json.loads(made.dump()), "signature": signing.sign(ring, made.signed())}
        self.members["manifest.json"] = json.dumps(signed).encode()

    def write(self):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in self.order:
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(self.members[name]), 0o600
                if name in self.links:
                    info.type, info.linkname, info.size = tarfile.SYMTYPE, self.links[name], 0
                tar.addfile(info, io.BytesIO(self.members[name]))
            for info, content in self.extra:
                tar.addfile(info, io.BytesIO(content))
        with self.path.open("wb") as file:
            out = archive._Gzip(file)
            out.write(raw.getvalue())
            out.end()
        return self.path


@pytest.fixture
def forged(two, tmp_path):
    folder = tmp_path / "forged"
    folder.mkdir()
    return Forged(two.archive, folder)


def refused(two, path):
    """The type of the refusal; the home is what it was."""
    before = two.home.tree()
    done = two.home.run("restore", "--archive", str(path), "--yes", "--json")
    assert done.returncode == 1, done.stdout
    assert two.home.tree() == before
    assert list((two.home.folder / "restore").glob("staged-*")) == []
    return error_of(done)


def read(path, folder):
    with path.open("rb") as file:
        archive.Reader(file).extract(folder)


def test_put_together_again_it_is_accepted(two, forged):
    two.home.do("restore", "--archive", str(forged.write()), "--yes")
    assert two.home.look() == two.was


def test_f6_truncated_at_each_percent_and_with_a_bit_flipped_at_each_percent(two, tmp_path):
    whole = two.archive.read_bytes()
    broken, count = tmp_path / two.archive.name, 0
    for percent in range(100):
        at = len(whole) * percent // 100
        flipped = bytearray(whole)
        flipped[at] ^= 1 << percent % 8
        for number, content in enumerate((whole[:at], bytes(flipped))):
            broken.write_bytes(content)
            with pytest.raises(ArchiveRefused):
                read(broken, tmp_path / f"{percent}-{number}")
            count += 1
    assert count == 200
    read(two.archive, tmp_path / "whole")


@pytest.mark.parametrize("cut", [0, 5, 12, -1, -8, -9])
def test_f6_cut_anywhere_it_is_truncated(two, tmp_path, cut):
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(two.archive.read_bytes()[:cut])
    with pytest.raises(ArchiveRefused) as error:
        read(path, tmp_path / "x")
    assert error.value.type == "archive_truncated"


@pytest.mark.parametrize("byte", [*range(16), 20, 47, -1, -8])
def test_f6_not_even_the_bytes_that_nothing_checks_may_differ(two, tmp_path, byte):
    content = bytearray(two.archive.read_bytes())
    content[byte] ^= 1
    path = tmp_path / "flipped.tar.gz"
    path.write_bytes(bytes(content))
    with pytest.raises(ArchiveRefused):
        read(path, tmp_path / "x")


def test_f6_through_the_command(two, tmp_path):
    whole = two.archive.read_bytes()
    path = tmp_path / two.archive.name
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(two, path) == "archive_truncated"
    path.write_bytes(whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:])
    assert refused(two, path) == "archive_damaged"
    path.write_bytes(whole + b"x")
    assert refused(two, path) == "archive_member"
    path.write_bytes(b"no archive at all")
    assert refused(two, path) == "archive_damaged"
    assert refused(two, tmp_path / "nowhere.tar.gz") == "archive_missing"


def entry(name, kind=tarfile.REGTYPE, link="", content=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o600
    return info, content


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (entry("../x", content=b"x"), "leads out"),
        (entry("/etc/x", content=b"x"), "leads out"),
        (entry("keys/../../x", content=b"x"), "leads out"),
        (entry("link", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link"),
        (entry("keys/vault.json", tarfile.LNKTYPE, "instance.id"), "hard link"),
        (entry("dev", tarfile.CHRTYPE), "device"),
        (entry("dev", tarfile.BLKTYPE), "device"),
        (entry("pipe", tarfile.FIFOTYPE), "pipe"),
        (entry("keys", tarfile.DIRTYPE), "folder"),
        (entry("keys/vault.json", content=b"x"), "twice"),
        (entry("KEYS/vault.json", content=b"x"), "look-alike"),
        (entry("./instance.id", content=b"x"), "look-alike"),
        (entry("keys/vault．json", content=b"x"), "look-alike"),
        (entry("more.txt", content=b"x"), "does not name"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0].name}-{value[0].type}",
)
def test_f3_f4_what_does_not_belong_is_named_and_nothing_is_unpacked_there(two, forged, tmp_path, what, said):
    forged.extra = [what]
    with pytest.raises(ArchiveRefused) as error:
        read(forged.write(), tmp_path / "inside")
    assert error.value.type == "archive_member"
    assert said in error.value.message
    assert not (tmp_path / "x").exists()


def test_f3_a_link_in_the_place_of_a_member(two, forged, tmp_path):
    forged.links["keys/vault.json"] = "/etc/passwd"
    with pytest.raises(ArchiveRefused, match="symbolic link"):
        read(forged.write(), tmp_path / "inside")


def test_f3_a_setuid_mode_is_refused(two, forged, tmp_path, monkeypatch):
    real = archive._header

    def with_setuid(name, size):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o4755 if name == "instance.id" else 0o600
        return info.tobuf(tarfile.GNU_FORMAT)

    monkeypatch.setattr(archive, "_header", with_setuid)
    data = forged.about()
    target = io.BytesIO()
    members = [manifest.Member(**item) for item in data["members"]]
    staged = tmp_path / "staged"
    for name, content in forged.members.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content)
    archive.write(target, forged.members["manifest.json"], staged, members, lambda _done, _total: None)
    monkeypatch.setattr(archive, "_header", real)
    forged.path.write_bytes(target.getvalue())
    with pytest.raises(ArchiveRefused, match="another size, mode or owner"):
        read(forged.path, tmp_path / "inside")


def test_f4_a_member_is_missing(two, forged, tmp_path):
    forged.order.remove("keys/pepper.key")
    with pytest.raises(ArchiveRefused):
        read(forged.write(), tmp_path / "inside")


def test_f5_a_bomb_is_found_while_it_unpacks(two, forged, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MAX_RATIO", 100)
    database = manifest.SQLITE
    forged.members[database] = bytes(50 << 20)
    forged.describe()
    with pytest.raises(ArchiveRefused) as error:
        read(forged.write(), tmp_path / "inside")
    assert error.value.type == "archive_bomb"


def test_f5_a_bomb_is_ended_by_the_clock(two, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_SECONDS", -1.0)
    with pytest.raises(ArchiveRefused) as error:
        read(two.archive, tmp_path / "inside")
    assert error.value.type == "archive_bomb"


def test_f5_a_manifest_that_promises_more_than_there_is_room_for(two, forged):
    data = forged.about()
    for item in data["members"]:
        if item["name"] == manifest.SQLITE:
            item["size"] = 2**40
    forged.members["manifest.json"] = json.dumps(data).encode()
    assert refused(two, forged.write()) == "storage_full"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"members": []},
        {"rows": {"tenants": -1}},
        {"rows": []},
        {"surprise": 1},
        {"members": [{"name": "../x", "size": 1, "sha256": "0" * 64}]},
        {"members": [{"name": "keys/vault.json", "size": True, "sha256": "0" * 64}]},
    ],
    ids=str,
)
def test_f4_a_manifest_that_is_none(forged, change):
    with pytest.raises(ArchiveRefused) as error:
        manifest.parse(json.dumps({**forged.about(), **change}).encode())
    assert error.value.type == "archive_damaged"


def test_f8_a_format_of_the_future_is_told_with_both_numbers(two, forged):
    forged.describe(format=7)
    done = two.home.run("restore", "--archive", str(forged.write()), "--yes")
    assert done.returncode == 1
    assert "format 7" in done.stderr
    assert "up to 1" in done.stderr


def on_database(forged, tmp_path, statement, *more):
    """Change the database inside, with its checksum mended."""
    path = tmp_path / "inner.db"
    path.write_bytes(forged.members[manifest.SQLITE])
    database = sqlite3.connect(path)
    for text in (statement, *more):
        database.execute(text)
    database.commit()
    database.close()
    forged.members[manifest.SQLITE] = path.read_bytes()


def test_f8_a_newer_schema_is_refused_with_both_versions_named(two, forged, tmp_path):
    statement = "INSERT INTO django_migrations (app, name, applied) VALUES ('vault', '9999_later', '2030-01-01')"
    on_database(forged, tmp_path, statement)
    forged.describe(rows={})
    path = forged.write()
    assert refused(two, path) == "archive_newer"
    done = two.home.run("restore", "--archive", str(path), "--yes")
    assert "vault is at 9999_later there, and this code knows 0002_origins" in done.stderr


def test_f8_an_older_schema_is_migrated_before_it_is_put_in_place(two, forged, tmp_path):
    """As it was before history ended; upgrades from the first version are tests of ``upgrade``."""
    on_database(
        forged,
        tmp_path,
        "ALTER TABLE tenants DROP COLUMN image",
        "DROP TABLE run_totals",
        "DELETE FROM django_migrations WHERE name IN ('0033_image', '0034_undelete', '0011_run_totals')",
    )
    forged.describe(rows={})
    told = json.loads(two.home.do("restore", "--archive", str(forged.write()), "--yes", "--json"))
    assert sorted(told["migrated"]) == ["monitoring.0011_run_totals", "tenants.0033_image", "tenants.0034_undelete"]
    assert two.home.look() == two.was


def test_f7_a_damaged_database_with_the_right_checksum(two, forged, tmp_path):
    content = bytearray(forged.members[manifest.SQLITE])
    content[4096 * 3 : 4096 * 7] = b"\xff" * 4096 * 4
    forged.members[manifest.SQLITE] = bytes(content)
    forged.describe(rows={})
    assert refused(two, forged.write()) == "archive_database_damaged"


def test_f7_a_row_that_refers_to_what_is_not_there(two, forged, tmp_path):
    on_database(
        forged,
        tmp_path,
        "INSERT INTO django_admin_log (action_time, object_repr, action_flag, change_message, user_id) "
        "VALUES ('2030-01-01', 'x', 1, '', 4711)",
    )
    forged.describe(rows={})
    assert refused(two, forged.write()) == "archive_database_damaged"


def test_f7_other_row_counts_than_the_manifest_says(two, forged):
    rows = {**forged.about()["rows"], "audit_log": 12_345}
    forged.describe(rows=rows)
    assert refused(two, forged.write()) == "archive_database_damaged"


def test_f9_the_right_database_with_another_key(two, forged):
    ring = keyfile.Keyring((keyfile.new_key(1, "2030-01-01T00:00:00+00:00"),))
    forged.members["keys/vault.json"] = keyfile.dump(ring, "")
    forged.describe()
    assert refused(two, forged.write()) == "vault_key_foreign"


def test_f9_a_key_file_that_lacks_a_version(two, forged, tmp_path):
    on_database(forged, tmp_path, "UPDATE vault_keys SET version = 5", "UPDATE vault_secrets SET key_version = 5")
    forged.describe()
    assert refused(two, forged.write()) == "vault_key_incomplete"


def test_f4_a_manifest_that_somebody_else_wrote(two, forged):
    forged.describe()
    data = json.loads(forged.members["manifest.json"])
    data["version"] = "9.9.9"
    forged.members["manifest.json"] = json.dumps(data).encode()
    assert refused(two, forged.write()) == "archive_signature"


def test_a_configuration_that_this_version_does_not_understand(two, forged):
    forged.members["platform.toml"] = b"[surprise]\nx = 1\n"
    forged.describe()
    assert refused(two, forged.write()) == "archive_settings"


def test_a_key_that_came_from_the_environment_has_to_be_there_again(two, forged):
    data = forged.about()
    forged.order.remove("keys/pepper.key")
    members = [item for item in data["members"] if item["name"] != "keys/pepper.key"]
    del forged.members["keys/pepper.key"]
    data["members"] = members
    forged.members["manifest.json"] = json.dumps(data).encode()
    forged.describe(environment=["PEPPER"])
    path = forged.write()
    assert refused(two, path) == "archive_settings"
    two.home.env["ZCPLATFORM_PEPPER"] = "p" * 50
    two.home.do("restore", "--archive", str(path), "--yes")


def test_a_place_that_can_not_be_written_is_named_before_anything_changes(two, tmp_path):
    shutil.rmtree(two.home.folder / "keys")
    (two.home.folder / "keys").write_text("in the way")
    done = two.home.run("restore", "--archive", str(two.archive), "--yes", "--json")
    assert done.returncode == 1
    assert not list(two.home.folder.glob(".*.new-*"))
