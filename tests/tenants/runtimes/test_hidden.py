"""What takes space and has no name below the tenant's folder: real files, and real processes under another uid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from monitoring.collectors import disks
from monitoring.models import ResourceCounter
from tenants.folders import DirectFolders
from tenants.models import Hold, Tenant
from tenants.runtimes import cgroups, folder_script, loose_files, process
from tenants.runtimes.base import Holder
from tenants.runtimes.process import ProcessRuntime
from tests.fakes import FakeRuntime

pytestmark = pytest.mark.root
UID = 64_321
MB = 1_000_000
# As root, since the interpreter may lie where nobody else gets to; what is needed is loaded before.
BECOME = f"""
import ctypes, os, signal, sys, threading
libc = ctypes.CDLL(None); os.setgroups([]); os.setresgid({UID}, {UID}, {UID}); os.setresuid({UID}, {UID}, {UID})
libc.prctl(4, 1, 0, 0, 0)
"""
SETTLED = "print('ready', flush=True); import sys; sys.stdin.read()"
UNLINKED = f"""
import os, sys
file = open(sys.argv[1], "wb"); os.unlink(sys.argv[1]); file.write(b"x" * {5 * MB}); file.flush()
"""
MAPPED = f"""
import os, sys
file = open(sys.argv[1], "w+b"); file.write(b"x" * {5 * MB}); file.flush(); os.unlink(sys.argv[1])
libc.mmap.restype = ctypes.c_void_p
assert libc.mmap(None, ctypes.c_size_t({5 * MB}), 1, 1, file.fileno(), ctypes.c_long(0)) != ctypes.c_void_p(-1).value
file.close()  # Python's own mmap would keep a descriptor of it
"""
IN_MEMORY = f"""
import os
number = os.memfd_create("x"); os.write(number, b"x" * {5 * MB})
"""
UNDUMPABLE = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
OWN_TABLE = f"""
import ctypes, os, sys, threading
def hide(ready):
    ctypes.CDLL(None).unshare(0x400)
    file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR); os.unlink(sys.argv[1]); os.write(file, b"x" * {5 * MB})
    ready.set(); threading.Event().wait()
ready = threading.Event()
threading.Thread(target=hide, args=(ready,), daemon=True).start(); ready.wait()
"""


@pytest.fixture
def place(tmp_path_factory):
    """A folder that the uid may write to; the way there is open, so that a process of it gets there."""
    made = Path(f"/tmp/zc-hidden-{uuid.uuid4().hex[:8]}")
    made.mkdir(mode=0o700)
    os.chown(made, UID, UID)
    yield made
    for path in made.iterdir():
        path.unlink()
    made.rmdir()


@pytest.fixture
def agent():
    """Runs a text as a process under the uid, until the test ends."""
    running = []

    def run(text, *arguments):
        argv = [sys.executable, "-I", "-S", "-c", BECOME + text + SETTLED, *map(str, arguments)]
        pipe = subprocess.PIPE
        found = subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd="/")
        running.append(found)
        assert found.stdout.readline() == b"ready\n"
        return found

    yield run
    for one in running:
        one.communicate()


HEADLESS = (
    MAPPED
    + """
threading.Thread(target=sys.stdin.read).start(); print("ready", flush=True)
libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
)


HIDDEN = {
    "unlinked": UNLINKED,
    "mapped and closed": MAPPED,
    "mapped and closed, the first thread has ended": HEADLESS,
    "in memory": IN_MEMORY,
    "of a process that hides its owner": UNLINKED + UNDUMPABLE,
    "in one thread's own table": OWN_TABLE,
}


@pytest.mark.parametrize("way", HIDDEN)
def test_what_has_no_name_is_weighed(place, agent, way):
    before = loose_files.held({UID})[UID]
    agent(HIDDEN[way], place / "file")
    assert 5 * MB <= loose_files.held({UID})[UID] - before < 6 * MB
    assert loose_files.held({UID + 1}) == {UID + 1: 0}, "it is nobody else's"


def test_one_file_that_two_hold_is_weighed_once(place, agent):
    agent(
        UNLINKED + "import os, signal, ctypes\npid = os.fork()\nif pid == 0:\n"
        " ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); signal.pause()\n",
        place / "file",
    )
    assert 5 * MB <= loose_files.held({UID})[UID] < 6 * MB


def test_on_another_device_it_is_not_the_folders(place, agent):
    agent(UNLINKED, place / "file")
    device = place.stat().st_dev
    assert loose_files.held({UID}, device)[UID] >= 5 * MB
    assert loose_files.held({UID}, device + 1)[UID] == 0


def test_of_one_with_very_many_descriptors_a_part_is_looked_at(agent, monkeypatch):
    many = "import os\nfor _ in range(900): os.dup(0)\n"
    agent(many + "".join("threading.Thread(target=threading.Event().wait, daemon=True).start()\n" for _ in range(20)))
    looked_at, clock, real = [], iter(range(10**9)), os.stat
    with monkeypatch.context() as patch:
        patch.setattr(loose_files, "LOOK_S", 200)
        patch.setattr(time, "monotonic", lambda: next(clock))
        patch.setattr(os, "stat", lambda path, **more: looked_at.append(path) or real(path, **more))
        loose_files.held({UID})
    assert 0 < len(looked_at) <= 200


def test_when_the_process_ends_it_weighs_nothing(place, agent):
    agent(UNLINKED, place / "file").communicate()
    assert loose_files.held({UID})[UID] == 0


def test_as_a_program_it_tells_of_one_uid(place, agent):
    agent(UNLINKED, place / "file")
    argv = [sys.executable, "-I", "-S", loose_files.__file__, str(place.stat().st_dev), str(UID)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True)
    size, done = told.stdout.split()
    assert int(size) >= 5 * MB and done == "done"


def holder(folder=Path("/nowhere")):
    return Holder(UID, folder, None)


@pytest.mark.parametrize("shared", process.SHARED)
def test_what_is_left_where_everybody_may_write_is_weighed(shared):
    before = ProcessRuntime().hidden([holder()])[UID]
    left = Path(shared) / f"zc-{uuid.uuid4().hex}"
    left.write_bytes(b"x" * 3 * MB)
    os.chown(left, UID, UID)
    try:
        assert 3 * MB <= ProcessRuntime().hidden([holder()])[UID] - before < 4 * MB
    finally:
        left.unlink()


def test_shared_memory_that_has_no_file_is_weighed(agent):
    before = ProcessRuntime().hidden([holder()])[UID]
    agent(
        "import ctypes\nlibc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p\n"
        f"number = libc.shmget(0, {5 * MB}, 0o1600); at = libc.shmat(number, None, 0)\n"
        f"ctypes.memset(at, 1, {5 * MB}); libc.shmctl(number, 0, None)\n"
    )
    assert ProcessRuntime().hidden([holder()])[UID] - before >= 5 * MB


def test_without_a_uid_of_their_own_nothing_can_be_told(monkeypatch):
    assert ProcessRuntime().hidden([Holder(0, Path("/"), None)]) == {}
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert ProcessRuntime().hidden([holder()]) == {}


def test_empty_files_weigh_what_a_byte_would(settings, tmp_path):
    settings.HOME = tmp_path
    folder = tmp_path / "tenants" / str(uuid.uuid4())
    keeper = DirectFolders()
    keeper.prepare(folder, UID)
    before = keeper.size(folder)
    for number in range(1_000):
        (folder / "data" / str(number)).touch()
    assert keeper.size(folder) - before >= 1_000 * folder_script.ENTRY
    for number in range(1_000):
        (folder / "data" / f"link{number}").symlink_to("x")
    assert keeper.size(folder) - before >= 2_000 * folder_script.ENTRY


def test_a_tree_is_weighed_by_owner(tmp_path):
    for owner in (UID, UID + 1):
        (tmp_path / str(owner)).write_bytes(b"x" * owner)
        os.chown(tmp_path / str(owner), owner, owner)
    top = os.open(tmp_path, os.O_RDONLY)
    found = folder_script.weigh(top)
    os.close(top)
    assert all(owner <= found[owner] < owner + 8_192 for owner in (UID, UID + 1))


def test_on_a_small_disk_a_tenant_that_hides_a_file_is_held(world, small_disk, agent, monkeypatch):
    """The whole way: the plan's limit, a real file system, and a process under the tenant's uid."""
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).update(uid=UID)
    tenant.plan.disk_limit_mb = 4
    tenant.plan.save()
    os.chown(small_disk, UID, UID)
    agent(UNLINKED, small_disk / "file")
    assert list(small_disk.iterdir()) == []
    monkeypatch.setattr(FakeRuntime, "hidden", ProcessRuntime.hidden)
    disks.sweep()
    assert ResourceCounter.objects.get().disk_bytes >= 5 * MB
    assert Hold.objects.get().kind == "quota"


@pytest.fixture
def small_disk(tmp_path):
    made = tmp_path / "disk"
    made.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(made)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    yield made
    subprocess.run(["umount", str(made)], check=True)


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_the_units_where_there_is_one(tmp_path, version):
    unit = f"zcplatform-{django_settings.INSTANCE}-a"
    path = f"system.slice/{unit}.scope"
    group = tmp_path / "cg" / ("memory" if version == 1 else "") / path
    group.mkdir(parents=True)
    names = ("memory.usage_in_bytes", "total_inactive_file") if version == 1 else ("memory.current", "inactive_file")
    (group / names[0]).write_text("9000\n")
    (group / "memory.stat").write_text(f"{names[1]} 2000\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"{'0::' if version == 2 else '3:memory:'}/{path}\n")
    assert cgroups.memory_of_unit(7, unit, root=tmp_path / "cg", proc=tmp_path) == 7_000
    assert cgroups.memory_of_unit(7, "another", root=tmp_path / "cg", proc=tmp_path) == 0
    assert cgroups.memory_of_unit(8, unit, root=tmp_path / "cg", proc=tmp_path) == 0
