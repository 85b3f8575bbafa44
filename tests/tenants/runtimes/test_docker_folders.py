"""Tenant folders by helper containers: for real, also by an ordinary user who may only reach the engine's socket."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import traceback
import uuid
from pathlib import Path

import pytest

from tenants.folders import DirectFolders
from tenants.runtimes import docker_helper, docker_hidden
from tenants.runtimes.base import Holder
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_folders import HelperFolders
from tests.tenants.runtimes.contract import alive, healthy, tiny_spec, until
from tests.tenants.runtimes.docker_bench import DEMO, PYTHON
from zcplatform.lib.errors import DependencyDown, RunFailed

pytestmark = [pytest.mark.docker, pytest.mark.root]
UID = 23_456
PLATFORM = 23_457


@pytest.fixture
def home(settings):
    """A home that an ordinary user can own: below nothing that is root's alone."""
    path = Path(tempfile.mkdtemp(prefix="zch-", dir="/tmp"))
    settings.HOME = path
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folders(installation, home):
    return HelperFolders(installation.engine)


@pytest.fixture
def folder(home):
    return home / "tenants" / str(uuid.uuid4())


def facts(path: Path) -> tuple[int, int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


def test_e8_parts_belong_to_the_tenant_and_the_wrapper_to_the_platform(folders, folder):
    for _ in range(2):
        folders.prepare(folder, UID)
    assert facts(folder / "config") == facts(folder / "data") == (UID, UID, 0o700)
    assert facts(folder) == facts(folder / "logs") == (os.geteuid(), os.getegid(), 0o700)


def test_e8_configuration_is_written_read_and_replaced(folders, folder):
    folders.prepare(folder, UID)
    folders.write_config(folder, UID, {"a.toml": b"one\x00\xff", "b.json": b"{}"})
    assert facts(folder / "config/a.toml") == (UID, UID, 0o400)
    folders.write_config(folder, UID, {"a.toml": b"two" * 100_000})
    assert folders.read_config(folder) == {"a.toml": b"two" * 100_000}
    assert os.listdir(folder / "config") == ["a.toml"]


def test_f2_planted_log_link_is_replaced_and_a_planted_folder_makes_room(folders, folder, home):
    folders.prepare(folder, UID)
    (home / "canary").write_text("alive")
    (folder / "logs/last.log").symlink_to(home / "canary")
    folders.write_log(folder, "last.log", "ours")
    assert (folder / "logs/last.log").read_text() == "ours"
    assert (home / "canary").read_text() == "alive"
    (folder / "config/a/deep").mkdir(parents=True)
    folders.write_config(folder, UID, {"a": b"ours"})
    assert folders.read_config(folder) == {"a": b"ours"}


def test_what_a_killed_helper_left_is_completed(folders, folder):
    folders.prepare(folder, UID)
    (folder / "data/kept").write_text("kept")
    (folder / "config/.a.tmp").write_text("half")
    os.chown(folder / "data", 0, 0)
    folders.prepare(folder, UID)
    assert facts(folder / "data")[0] == facts(folder / "data/kept")[0] == UID
    folders.write_config(folder, UID, {})
    assert folders.read_config(folder) == {}


def test_nothing_there_is_nothing_to_do(folders, folder, home):
    assert folders.read_config(folder) == {}
    folders.archive(folder, home / "trash" / folder.name)
    folders.purge(home / "trash" / folder.name)


def test_f2_planted_links_are_never_followed(folders, folder, home):
    canary = home / "canary"
    canary.mkdir()
    (canary / "file").write_text("alive")
    folders.prepare(folder, UID)
    (folder / "data/link").symlink_to(canary)
    (folder / "data/file").symlink_to(canary / "file")
    os.link(canary / "file", folder / "data/hard")
    os.chown(folder / "data", 1, 1)
    folders.prepare(folder, UID)
    assert facts(canary)[0] == facts(canary / "file")[0] == 0
    trash = home / "trash" / folder.name
    folders.archive(folder, trash)
    folders.purge(trash)
    assert (canary / "file").read_text() == "alive"
    assert not trash.exists()


@pytest.mark.parametrize("part", ["config", "data"])
def test_f2_a_part_that_became_a_link_is_refused(folders, folder, home, part):
    folders.prepare(folder, UID)
    os.rmdir(folder / part)
    (folder / part).symlink_to("/etc")
    with pytest.raises(RunFailed) as failed:
        folders.prepare(folder, UID)
    assert failed.value.type == "folder_failed"
    assert facts(Path("/etc"))[0] == 0


def test_f2_a_very_deep_tree_is_purged(folders, folder, home):
    folders.prepare(folder, UID)
    inner = os.open(folder / "data", os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=inner)
        inner, outer = os.open("d", os.O_RDONLY, dir_fd=inner), inner
        os.close(outer)
    os.close(inner)
    trash = home / "trash" / folder.name
    folders.archive(folder, trash)
    folders.purge(trash)
    assert not trash.exists()


@pytest.mark.parametrize("path", ["/etc", "{home}", "{home}/tenants/acme", f"{{home}}/tenants/../{uuid.UUID(int=7)}"])
def test_f1_only_a_uuid_below_the_home_is_shown_to_a_helper(folders, home, path):
    with pytest.raises(RunFailed) as failed:
        folders.prepare(Path(path.format(home=home)), UID)
    assert failed.value.type == "folder_failed"


def test_f1_a_link_on_the_way_is_refused(folders, home):
    (home / "tenants").symlink_to("/etc")
    with pytest.raises(RunFailed):
        folders.prepare(home / "tenants" / str(uuid.uuid4()), UID)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a.tmp"])
def test_f1_a_configuration_file_has_a_plain_name(folders, folder, name):
    with pytest.raises(RunFailed):
        folders.write_config(folder, UID, {name: b""})


def test_helpers_leave_no_container_and_no_secret_behind(folders, folder, installation, settings, monkeypatch):
    seen = []
    call = type(installation.engine).call

    def spy(self, verb, *args, **kwargs):
        if verb == "start":
            seen.append(call(self, "inspect_container", args[0]))
        return call(self, verb, *args, **kwargs)

    monkeypatch.setattr(type(installation.engine), "call", spy)
    folders.prepare(folder, UID)
    folders.write_config(folder, UID, {"a": b"canary-of-a-secret"})
    host = seen[1]["HostConfig"]
    assert "canary" not in json.dumps(seen)
    assert (host["NetworkMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert sorted(cap.removeprefix("CAP_") for cap in host["CapAdd"]) == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
    assert [mount["Source"] for mount in host["Mounts"]] == [str(folder)]
    label = f"zcplatform.instance={settings.INSTANCE}"
    until(lambda: not installation.engine.call("containers", all=True, filters={"label": [label, "zcplatform.helper"]}))
    assert installation.list() == []


def as_ordinary_user(gid: int, act) -> str:
    """What went wrong in ``act`` when a child ran it as an ordinary user with the socket's group; empty if nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        try:
            os.setgroups([gid])
            os.setresgid(PLATFORM, PLATFORM, PLATFORM)
            os.setresuid(PLATFORM, PLATFORM, PLATFORM)
            act()
        except BaseException:
            text = traceback.format_exc()
        os.write(writer, text.encode()[-60_000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text


def test_an_ordinary_user_in_the_engines_group_does_it_all(installation, home, settings):
    image = installation.ensure_image("zcplatform-demo:latest")  # and so its hash is known to the child as well
    socket = Path(settings.DOCKER_HOST.removeprefix("unix://"))
    os.chown(home, PLATFORM, PLATFORM)
    marker = f"exec-{uuid.uuid4()}"

    def act():
        runtime = DockerRuntime()
        assert isinstance(runtime.folders, HelperFolders)
        runtime.ensure_network(0)
        spec = tiny_spec(runtime, python=PYTHON, image=image, uid=UID)
        folder = Path(spec.folder)
        runtime.folders.write_config(folder, UID, {"a": b"content"})
        with pytest.raises(PermissionError):
            os.listdir(folder / "data")
        handle = runtime.create(spec)
        runtime.start(handle)
        until(lambda: healthy(spec.port))
        code = "import os, sys, time; print(os.getuid(), open('/config/a').read(), flush=True); time.sleep(600)"
        result = runtime.exec(handle, [PYTHON, "-c", code, marker], timeout_s=2)
        assert (result.timed_out, result.output) == (True, f"{UID} content\n"), result
        assert alive(marker) == []
        assert healthy(spec.port)
        runtime.remove(handle)
        assert runtime.folders.read_config(folder) == {"a": b"content"}
        trash = home / "trash" / folder.name
        runtime.folders.write_log(folder, "last.log", "kept")
        runtime.folders.archive(folder, trash)
        assert not folder.exists()
        runtime.folders.prepare(folder, UID)  # archived, made anew, archived again: one purge takes both
        runtime.folders.archive(folder, trash)
        runtime.folders.purge(trash)
        assert not trash.exists()

    assert as_ordinary_user(socket.stat().st_gid, act) == ""


@pytest.mark.parametrize(
    ("stderr", "kind", "reason"),
    [
        ("Traceback\nOSError: [Errno 28] No space left on device", DependencyDown, "storage_full"),
        ("Traceback\nOSError: [Errno 20] Not a directory: 'data'", RunFailed, "folder_failed"),
        ("", RunFailed, "folder_failed"),
    ],
)
def test_r2_a_full_disk_waits_and_another_failure_does_not(stderr, kind, reason):
    failure = docker_helper._failure(stderr)
    assert (type(failure), failure.type) == (kind, reason)


def test_the_size_is_what_a_direct_look_tells(folders, folder):
    folders.prepare(folder, UID)
    (folder / "data" / "note").write_bytes(b"x" * 1_000_000)
    assert folders.size(folder) == DirectFolders().size(folder) > 1_000_000
    assert folders.size(folder.with_name(str(uuid.uuid4()))) == 0


HIDES = """
import os, time
file = open("/data/file", "wb"); os.unlink("/data/file"); file.write(b"x" * 5_000_000); file.flush()
shared = open("/dev/shm/file", "wb"); os.unlink("/dev/shm/file"); shared.write(b"x" * 3_000_000); shared.flush()
print("ready", flush=True); time.sleep(600)
"""


@pytest.mark.parametrize("as_root", [True, False])
def test_a_file_that_a_container_holds_open_without_a_name_is_weighed(emptied, home, monkeypatch, as_root):
    """As root by the host's own list of processes; else by a helper that has the agent's uid and no more. What lies in
    the container's memory is no disk."""
    runtime = DockerRuntime()
    runtime.ensure_network(0)
    argv = (PYTHON, "-I", "-S", "-c", HIDES)
    spec = tiny_spec(runtime, python=PYTHON, image=runtime.ensure_image(DEMO), uid=UID, argv=argv)
    handle = runtime.create(spec)
    runtime.start(handle)
    until(lambda: "ready" in runtime.logs(handle))
    if not as_root:
        monkeypatch.setattr(docker_hidden.os, "geteuid", lambda: PLATFORM)
    found = runtime.hidden([Holder(UID, Path(spec.folder), handle), Holder(UID + 1, home / "gone", None)])
    assert list(found) == [UID]
    assert 5_000_000 <= found[UID] < 5_100_000
    runtime.remove(handle)
