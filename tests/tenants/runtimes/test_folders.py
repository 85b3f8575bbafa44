"""Tenant folders against a tenant that plants links: threats E7, E8, F1, F2."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tenants import folders as folders_module
from tenants.folders import DirectFolders
from tenants.runtimes import folder_script
from zcplatform.lib.errors import DependencyDown, RunFailed

UID = 234_567
root = os.geteuid() == 0
keeper = DirectFolders()


@pytest.fixture
def home(tmp_path, settings):
    settings.HOME = tmp_path / "home"
    settings.HOME.mkdir()
    return settings.HOME


@pytest.fixture
def folder(home):
    return home / "tenants" / str(uuid.uuid4())


@pytest.fixture
def trash(home, folder):
    return home / "trash" / folder.name


@pytest.fixture
def canary(tmp_path):
    """A folder of the host that must stay as it is, whatever links point to it."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "canary").write_text("alive")
    before = outside.stat()
    yield outside
    after = outside.stat()
    assert sorted(p.name for p in outside.iterdir()) == ["canary"]
    assert (outside / "canary").read_text() == "alive"
    assert (outside / "canary").stat().st_uid == os.geteuid()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, stat.S_IMODE(path.lstat().st_mode)


def tenant() -> int:
    return UID if root else os.geteuid()


def as_tenant(folder: Path, act) -> str:
    """The name of the error of ``act``, done in ``folder`` by a child with the tenant's uid; empty if there is none.
    The child gets there by descriptor: the folders of tests are closed to it further up."""
    here, (reader, writer) = os.open(folder, os.O_RDONLY), os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.fchdir(here)
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            act()
        except BaseException as error:
            said = type(error).__name__
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.close(here)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_prepare_gives_the_parts_to_the_tenant_and_the_rest_to_the_platform(folder):
    keeper.prepare(folder, UID)
    assert [owner(folder / part) for part in ("config", "data")] == [(tenant(), 0o700)] * 2
    assert [owner(folder), owner(folder / "logs")] == [(os.geteuid(), 0o711), (os.geteuid(), 0o700)]


def test_write_log_replaces_the_file_and_needs_a_folder(folder):
    keeper.write_log(folder, "last.log", "nowhere to keep it")
    assert not folder.parent.exists()
    keeper.prepare(folder, UID)
    for text in ("first", "second ä"):
        keeper.write_log(folder, "last.log", text)
        assert [(p.name, p.read_text()) for p in (folder / "logs").iterdir()] == [("last.log", text)]
    assert owner(folder / "logs/last.log") == (os.geteuid(), 0o400)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", "..", "x.tmp"])
def test_f1_a_log_has_a_plain_name(folder, name):
    keeper.prepare(folder, UID)
    with pytest.raises(RunFailed) as failed:
        keeper.write_log(folder, name, "x")
    assert failed.value.type == "folder_failed"


@pytest.mark.parametrize("planted", ["file", "logs"])
def test_f2_planted_log_link_is_replaced_or_refused_and_its_target_left(folder, canary, planted):
    keeper.prepare(folder, UID)
    if planted == "file":
        (folder / "logs/last.log").symlink_to(canary / "canary")
        keeper.write_log(folder, "last.log", "ours")
        assert not (folder / "logs/last.log").is_symlink()
        assert (folder / "logs/last.log").read_text() == "ours"
    else:
        (folder / "logs").rmdir()
        (folder / "logs").symlink_to(canary)
        with pytest.raises(RunFailed):
            keeper.write_log(folder, "canary", "ours")


@pytest.mark.root
@pytest.mark.skipif(not root, reason="drops to the tenant's uid")
def test_f2_planted_log_link_is_beyond_the_tenants_uid(folder, canary):
    keeper.prepare(folder, UID)
    keeper.write_log(folder, "last.log", "before")
    refused = [
        lambda: os.symlink(canary / "canary", "logs/last.log"),
        lambda: os.rename("logs", "moved"),
        lambda: os.rename("data", "moved"),
        lambda: os.symlink(canary, "another"),
        lambda: os.rmdir("config"),
        lambda: os.listdir("logs"),
        lambda: os.chmod(".", 0o777),
    ]
    assert [as_tenant(folder, act) for act in refused] == ["PermissionError"] * len(refused)
    assert as_tenant(folder, lambda: Path("data/note").write_text("mine")) == ""
    assert as_tenant(folder, lambda: os.listdir("config")) == ""


@pytest.mark.root
@pytest.mark.skipif(not root, reason="drops to the tenant's uid")
def test_f2_planted_log_link_of_a_folder_that_was_the_tenants_hurts_nobody_and_prepare_mends_it(folder, canary):
    keeper.prepare(folder, UID)
    os.chown(folder, UID, UID)
    folder.chmod(0o700)

    def plant() -> None:
        os.rename("logs", "moved")
        os.mkdir("logs")
        os.symlink(canary / "canary", "logs/last.log")

    assert as_tenant(folder, plant) == ""
    with pytest.raises(RunFailed) as failed:
        keeper.write_log(folder, "last.log", "ours")
    assert failed.value.type == "folder_failed"
    keeper.prepare(folder, UID)
    assert [owner(folder), owner(folder / "logs")] == [(0, 0o711), (0, 0o700)]
    assert as_tenant(folder, plant) == "PermissionError"
    keeper.write_log(folder, "last.log", "ours")
    assert (folder / "logs/last.log").read_text() == "ours"


@pytest.mark.root
@pytest.mark.skipif(not root, reason="changes owners")
def test_f2_prepare_takes_the_folder_before_it_looks_at_the_parts(folder, monkeypatch):
    """Otherwise a tenant that owned it exchanges one between the look and the gift."""
    keeper.prepare(folder, UID)
    os.chown(folder, UID, UID)
    owners = []
    give = folders_module._give
    monkeypatch.setattr(folders_module, "_give", lambda *a: (owners.append(owner(folder)), give(*a)))
    keeper.prepare(folder, UID)
    assert owners == [(0, 0o711)] * 2


def test_prepare_again_completes_what_a_killed_worker_began_and_keeps_the_data(folder):
    keeper.prepare(folder, UID)
    (folder / "data/kept").write_text("x")
    (folder / "logs").rmdir()
    (folder / "data").chmod(0o777)
    keeper.prepare(folder, UID)
    assert (folder / "data/kept").read_text() == "x"
    assert (folder / "logs").is_dir()
    assert owner(folder / "data")[1] == 0o700


@pytest.mark.root
@pytest.mark.skipif(not root, reason="changes owners")
def test_f2_prepare_for_another_uid_gives_the_content_too_but_no_hard_link_and_no_link_target(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "data/deep").mkdir()
    (folder / "data/deep/note").write_text("x")
    for path in ("data/deep", "data/deep/note"):
        os.chown(folder / path, UID, UID)
    (folder / "data/link").symlink_to(canary)
    os.lchown(folder / "data/link", UID, UID)
    os.link(canary / "canary", folder / "data/deep/hard")
    keeper.prepare(folder, UID + 1)
    given = ("data", "data/deep", "data/deep/note", "data/link")
    assert [owner(folder / p)[0] for p in given] == [UID + 1] * 4


@pytest.mark.root
@pytest.mark.skipif(not root, reason="changes owners")
def test_f2_a_hard_link_to_a_file_of_root_is_not_given_away_where_the_content_was_roots(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "data/note").write_text("x")
    os.link(canary / "canary", folder / "data/hard")
    os.chown(folder / "data", 0, 0)
    keeper.prepare(folder, UID)
    assert [owner(folder / p)[0] for p in ("data", "data/note", "data/hard")] == [UID, UID, 0]


@pytest.mark.root
@pytest.mark.skipif(not root, reason="changes owners")
def test_f2_what_is_exchanged_between_the_look_and_the_gift_is_not_given(folder, canary, monkeypatch):
    keeper.prepare(folder, UID)
    (folder / "data/note").write_text("x")
    os.chown(folder / "data/note", UID, UID)
    fstat = os.fstat

    def exchange(descriptor):
        found = fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and not (folder / "data/moved").exists():
            os.rename(folder / "data/note", folder / "data/moved")
            os.link(canary / "canary", folder / "data/note")
        return found

    monkeypatch.setattr(folders_module.os, "fstat", exchange)
    keeper.prepare(folder, UID + 1)
    assert owner(folder / "data/moved")[0] == UID + 1


@pytest.mark.parametrize("part", ["config", "data", "logs"])
def test_f2_prepare_refuses_a_part_that_is_a_planted_link(folder, canary, part):
    keeper.prepare(folder, UID)
    (folder / part).rmdir()
    (folder / part).symlink_to(canary)
    with pytest.raises(RunFailed) as failed:
        keeper.prepare(folder, UID)
    assert failed.value.type == "folder_failed"


def test_f2_prepare_refuses_a_folder_that_is_a_link(folder, canary):
    folder.parent.mkdir()
    folder.symlink_to(canary)
    with pytest.raises(RunFailed):
        keeper.prepare(folder, UID)


@pytest.mark.parametrize("name", ["acme", "..", "a/b", "", "A" * 36, "{}\n", "{}/../../etc"])
def test_f1_a_folder_not_named_by_a_uuid_is_refused(home, name):
    for act in (lambda p: keeper.prepare(p, UID), keeper.read_config, keeper.purge, lambda p: keeper.archive(p, p)):
        with pytest.raises(RunFailed) as failed:
            act(home / "tenants" / name.format(uuid.uuid4()))
        assert failed.value.type == "folder_failed"
    assert not (home / "tenants").exists()


def test_f1_a_folder_outside_the_home_is_refused(home, tmp_path):
    for path in (
        tmp_path / str(uuid.uuid4()),
        home / ".." / str(uuid.uuid4()),
        home / "tenants/../.." / str(uuid.uuid4()),
    ):
        with pytest.raises(RunFailed) as failed:
            keeper.prepare(path, UID)
        assert failed.value.type == "folder_failed"
        assert not path.exists()


def test_e8_configuration_files_are_readable_by_the_tenant_alone(folder):
    keeper.prepare(folder, UID)
    keeper.write_config(folder, UID, {"config.toml": b"a = 1\n"})
    assert owner(folder / "config/config.toml") == (tenant(), 0o400)
    assert owner(folder / "config") == (tenant(), 0o700)


def test_write_config_makes_the_content_exactly_what_was_given_and_sweeps_the_rest(folder):
    keeper.prepare(folder, UID)
    keeper.write_config(folder, UID, {"a.toml": b"1", "b.json": b"2"})
    (folder / "config/.c.0123.tmp").write_bytes(b"torn")
    (folder / "config/planted/deep").mkdir(parents=True)
    for _ in range(2):
        keeper.write_config(folder, UID, {"a.toml": b"3", "c": b"4"})
        assert keeper.read_config(folder) == {"a.toml": b"3", "c": b"4"}
        assert sorted(p.name for p in (folder / "config").iterdir()) == ["a.toml", "c"]


def test_e7_a_reader_never_sees_half_a_file(folder):
    keeper.prepare(folder, UID)
    whole = {b"a" * 300_000, b"b" * 300_000}
    keeper.write_config(folder, UID, {"f": b"a" * 300_000})
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add((folder / "config/f").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(30):
        keeper.write_config(folder, UID, {"f": sorted(whole)[n % 2]})
    done.set()
    reader.join()
    assert seen <= whole


def test_e7_a_crash_before_the_rename_leaves_the_old_file(folder, monkeypatch):
    keeper.prepare(folder, UID)
    keeper.write_config(folder, UID, {"f": b"old"})

    def crash(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folders_module.os, "rename", crash)
        keeper.write_config(folder, UID, {"f": b"new"})
    assert keeper.read_config(folder)["f"] == b"old"
    keeper.write_config(folder, UID, {"f": b"new"})
    assert [p.name for p in (folder / "config").iterdir()] == ["f"]


def test_f2_write_config_replaces_a_planted_link_and_leaves_its_target(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "config/f").symlink_to(canary / "canary")
    (folder / "config/other").symlink_to(canary)
    keeper.write_config(folder, UID, {"f": b"ours"})
    assert not (folder / "config/f").is_symlink()
    assert keeper.read_config(folder) == {"f": b"ours"}


def test_f2_write_config_replaces_a_planted_folder(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "config/f").mkdir()
    (folder / "config/f/link").symlink_to(canary)
    keeper.write_config(folder, UID, {"f": b"ours"})
    assert keeper.read_config(folder) == {"f": b"ours"}


def test_f2_read_config_does_not_follow_links_nor_wait_for_a_pipe(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "config/link").symlink_to(canary / "canary")
    os.mkfifo(folder / "config/pipe")
    assert keeper.read_config(folder) == {}


def test_f2_read_config_reads_a_bounded_part_of_what_was_planted(folder):
    keeper.prepare(folder, UID)
    for number in range(folders_module.CONFIG_FILES_MAX + 5):
        (folder / f"config/{number:04}").touch()
    with (folder / "config/0000").open("wb") as sparse:
        sparse.truncate(1 << 40)
    found = keeper.read_config(folder)
    assert len(found) == folders_module.CONFIG_FILES_MAX
    assert len(found["0000"]) == folders_module.CONFIG_FILE_MAX


def test_f2_a_configuration_folder_that_is_a_link_is_refused(folder, canary):
    keeper.prepare(folder, UID)
    (folder / "config").rmdir()
    (folder / "config").symlink_to(canary)
    for act in (lambda: keeper.write_config(folder, UID, {"f": b"x"}), lambda: keeper.read_config(folder)):
        with pytest.raises(RunFailed) as failed:
            act()
        assert failed.value.type == "folder_failed"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".", "..", "x\n", "x.tmp", "nul\0"])
def test_f1_a_configuration_file_has_a_plain_name(folder, name):
    keeper.prepare(folder, UID)
    with pytest.raises(RunFailed) as failed:
        keeper.write_config(folder, UID, {name: b"x"})
    assert failed.value.type == "folder_failed"


def test_read_config_of_an_absent_folder_is_empty(folder):
    assert keeper.read_config(folder) == {}


def test_archive_and_purge_can_be_called_again(folder, trash):
    keeper.prepare(folder, UID)
    (folder / "data/kept").write_text("x")
    for _ in range(2):
        keeper.archive(folder, trash)
        assert not folder.exists()
        assert (trash / "data/kept").read_text() == "x"
        assert owner(trash.parent) == (os.geteuid(), 0o700)
    for _ in range(2):
        keeper.purge(trash)
        assert list(trash.parent.iterdir()) == []


def test_archive_of_a_folder_that_was_made_anew_keeps_both(folder, trash):
    for content in ("first", "second"):
        keeper.prepare(folder, UID)
        (folder / "data/kept").write_text(content)
        keeper.archive(folder, trash)
    assert sorted(p.read_text() for p in trash.rglob("kept")) == ["first", "second"]
    keeper.purge(trash)
    assert not trash.exists()


def test_f2_archive_and_purge_leave_what_planted_links_point_to(folder, trash, canary):
    keeper.prepare(folder, UID)
    (folder / "data/link").symlink_to(canary)
    (folder / "data/up").symlink_to("../../..")
    (folder / "logs").rmdir()
    (folder / "logs").symlink_to(canary)
    keeper.archive(folder, trash)
    keeper.purge(trash)
    assert not trash.exists()


def test_f2_purge_of_a_trash_entry_that_is_a_link_removes_the_link_alone(trash, canary):
    trash.parent.mkdir(parents=True)
    trash.symlink_to(canary)
    keeper.purge(trash)
    assert not trash.is_symlink()


def test_purge_takes_a_tree_deeper_than_any_path_and_modes_of_zero(folder, trash):
    keeper.prepare(folder, UID)
    here = os.open(folder / "data", os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", 0o700, dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.mkdir("closed", 0o000, dir_fd=here)
    os.close(here)
    keeper.archive(folder, trash)
    keeper.purge(trash)
    assert not trash.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_full_or_failing_disk_waits_and_leaves_the_old_configuration(folder, monkeypatch, number):
    keeper.prepare(folder, UID)
    keeper.write_config(folder, UID, {"f": b"old"})

    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folders_module.os, "fsync", fail)
    with pytest.raises(DependencyDown) as failed:
        keeper.write_config(folder, UID, {"f": b"new"})
    assert (failed.value.type, failed.value.permanent) == ("storage_full", False)
    assert keeper.read_config(folder)["f"] == b"old"


def test_two_prepare_at_once(folder):
    gate, failures = threading.Barrier(4), []

    def act() -> None:
        gate.wait()
        try:
            keeper.prepare(folder, UID)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert owner(folder / "config") == (tenant(), 0o700)


def test_size_counts_blocks_once_whatever_the_depth(folder, trash):
    keeper.prepare(folder, UID)
    before = keeper.size(folder)
    data = folder / "data"
    (data / "note").write_bytes(b"x" * 1_000_000)
    (data / "again").hardlink_to(data / "note")
    with (data / "sparse").open("wb") as file:
        file.truncate(10**12)
    grown = keeper.size(folder) - before
    assert 1_000_000 <= grown < 1_100_000
    descriptor = os.open(data, os.O_RDONLY)
    for _ in range(1_500):  # deeper than any path, and than the stack
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    with os.fdopen(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb") as file:
        file.write(b"x" * 500_000)
    os.close(descriptor)
    assert keeper.size(folder) - before >= 1_500_000
    keeper.archive(folder, trash)
    keeper.purge(trash)


def test_f2_size_follows_no_link_out_of_the_folder(folder, canary, tmp_path):
    keeper.prepare(folder, UID)
    before = keeper.size(folder)
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_bytes(b"x" * 3_000_000)
    (folder / "data" / "link").symlink_to(tmp_path / "big")
    (folder / "data" / "file").symlink_to(tmp_path / "big/file")
    assert keeper.size(folder) - before < 100_000
    (folder / "logs").rmdir()
    (folder / "logs").symlink_to(tmp_path / "big")
    assert keeper.size(folder) - before < 100_000


def test_f2_size_goes_no_way_up_that_is_not_the_way_it_came(folder, tmp_path, monkeypatch):
    keeper.prepare(folder, UID)
    inner = folder / "data" / "inner"
    inner.mkdir()
    (tmp_path / "home" / "big").write_bytes(b"x" * 3_000_000)
    original = folder_script.listed

    def moved(descriptor, device, seen):
        if inner.exists() and os.fstat(descriptor).st_ino == inner.stat().st_ino:
            inner.rename(tmp_path / "home" / "elsewhere")
        return original(descriptor, device, seen)

    monkeypatch.setattr(folder_script, "listed", moved)
    assert keeper.size(folder) < 100_000


def test_size_of_an_absent_folder_is_nothing(folder):
    assert keeper.size(folder) == 0


@pytest.fixture
def small_disk(home):
    """A home on a real file system of 256 KB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)], check=True)
    yield
    subprocess.run(["umount", str(home)], check=True)


@pytest.mark.root
@pytest.mark.skipif(not root, reason="mounts a file system")
def test_a_full_disk_is_waited_for_and_one_that_the_owner_fills_meanwhile_is_not(folder, small_disk, monkeypatch):
    keeper.prepare(folder, UID)
    keeper.write_config(folder, UID, {"f": b"old"})
    with pytest.raises(OSError, match="No space"):
        (folder / "config/mine").write_bytes(b"x" * 500_000)
    keeper.write_config(folder, UID, {"f": b"n" * 50_000})
    assert os.listdir(folder / "config") == ["f"], "what the owner has put there makes way first"
    sweep = folders_module._sweep

    def refilled(config, files):
        sweep(config, files)
        with suppress(OSError):
            (folder / "config/mine").write_bytes(b"x" * 500_000)

    with monkeypatch.context() as patch, pytest.raises(RunFailed) as failed:
        patch.setattr(folders_module, "_sweep", refilled)
        keeper.write_config(folder, UID, {"f": b"m" * 50_000})
    assert failed.value.type == "folder_failed"
    (folder / "config/mine").unlink()
    with suppress(OSError):
        (folder / "data/much").write_bytes(b"x" * 500_000)
    with pytest.raises(DependencyDown):
        keeper.write_config(folder, UID, {"f": b"m" * 50_000})


def test_a_folder_that_grows_while_it_is_cleared_is_given_up(folder, monkeypatch):
    keeper.prepare(folder, UID)
    (folder / "config/deep").mkdir()
    grown = iter(range(10**9))

    def flatten(top, name):
        os.close(os.open(f"more-{next(grown)}", os.O_CREAT, dir_fd=top))

    monkeypatch.setattr(folders_module, "SWEEP_S", 0.2)
    monkeypatch.setattr(folders_module, "_flatten", flatten)
    (folder / "config/deep/first").touch()
    with pytest.raises(RunFailed, match="filled while it is cleared"):
        keeper.write_config(folder, UID, {"f": b"new"})


def test_prepare_opens_a_part_that_its_owner_has_closed(folder):
    keeper.prepare(folder, UID)
    (folder / "config").chmod(0)
    keeper.prepare(folder, UID)
    assert owner(folder / "config") == (tenant(), 0o700)
