"""Control groups of both versions, and the engine's own numbers beside them.

The files of version 2 are laid out by hand after the kernel's documentation (cgroup-v2.rst) and ``docker stats``'
own reading of them, since the machines that these tests run on have version 1; those of version 1 were copied from a
running container.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tenants.runtimes import cgroups, docker_usage
from tenants.runtimes.base import Reading
from tests.tenants.runtimes.contract import until

ID = "00ee2aa60c8bbccafde5b94209c93beaf360c883aeacce2b7395df3ba5d7cc15"
# Two lines of headings, then per interface: eight counts received, eight sent, bytes first.
NET_DEV = """Inter-|   Receive                                    |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     500       5    0    0 0 0 0 0      500       5    0    0    0     0       0          0
  eth0:     927      11    0    0 0 0 0 0      582       9    0    0    0     0       0          0
  eth1: 1000       1    0    0 0 0 0 0     2000       1    0    0    0     0       0          0
"""
V1 = {
    "memory": {
        "memory.usage_in_bytes": "5177344\n",
        "memory.limit_in_bytes": "67108864\n",
        "memory.stat": "cache 8192\ninactive_file 1\nhierarchical_memory_limit 67108864\ntotal_inactive_file 4096\n",
        "cgroup.procs": "13202\n13250\n",
    },
    "cpuacct": {"cpuacct.usage": "34644528\n"},
    "pids": {"pids.current": "2\n"},
}
V2 = {
    "memory.current": "5177344\n",
    "memory.max": "67108864\n",
    "memory.stat": (
        "anon 4587520\nfile 8192\nkernel 581632\nkernel_stack 32768\npagetables 98304\nsock 0\nshmem 0\n"
        "file_mapped 4096\nfile_dirty 0\nfile_writeback 0\ninactive_anon 4579328\nactive_anon 8192\n"
        "inactive_file 4096\nactive_file 8192\nunevictable 0\nslab_reclaimable 200000\nslab 300000\n"
        "workingset_refault_file 0\npgfault 1200\npgmajfault 0\n"
    ),
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
    "cpu.stat": (
        "usage_usec 34644\nuser_usec 20000\nsystem_usec 14644\n"
        "nr_periods 3\nnr_throttled 3\nthrottled_usec 900\nnr_bursts 0\nburst_usec 0\n"
    ),
    "io.stat": "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
    "pids.max": "64\n",
    "pids.current": "2\n",
    "cgroup.procs": "13202\n13250\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.fixture
def proc(tmp_path):
    write(tmp_path / "proc/13202/net", {"dev": NET_DEV})
    return tmp_path / "proc"


def first(root: Path, place: str) -> Path:
    for controller, files in V1.items():
        write(root / controller / place.format(id=ID), files)
    return root


def second(root: Path, place: str) -> Path:
    write(root / place.format(id=ID), V2)
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return root


@pytest.mark.parametrize("place", cgroups.PLACES)
@pytest.mark.parametrize("layout", [first, second])
def test_both_versions_under_both_drivers_tell_the_same(tmp_path, proc, layout, place):
    reading = cgroups.read(ID, root=layout(tmp_path / "cgroup", place), proc=proc)
    assert reading and reading.life
    assert (reading.cpu_us, reading.mem_bytes, reading.mem_limit) == (34_644, 5_177_344 - 4_096, 67_108_864)
    assert (reading.net_in, reading.net_out, reading.pids) == (1_927, 2_582, 2)


@pytest.mark.parametrize(
    ("layout", "name", "text"),
    [(first, "memory/docker/{}/memory.limit_in_bytes", "9223372036854771712"), (second, "docker/{}/memory.max", "max")],
)
def test_no_limit_is_none_and_not_a_number(tmp_path, proc, layout, name, text):
    root = layout(tmp_path / "cgroup", "docker/{id}")
    (root / name.format(ID)).write_text(f"{text}\n")
    reading = cgroups.read(ID, root=root, proc=proc)
    assert reading and reading.mem_limit is None


@pytest.mark.parametrize("layout", [first, second])
def test_what_does_not_run_or_ends_meanwhile_is_no_reading(tmp_path, proc, layout):
    root = layout(tmp_path / "cgroup", "docker/{id}")
    assert cgroups.read("f" * 64, root=root, proc=proc) is None
    for procs in root.rglob("cgroup.procs"):
        procs.write_text("")
    assert cgroups.read(ID, root=root, proc=proc) is None


@pytest.mark.parametrize("name", ["memory.current", "memory.max", "pids.current", "cgroup.procs"])
def test_version_2_without_a_controller_is_no_reading_so_that_the_engine_is_asked(tmp_path, proc, name):
    """Where a controller is not handed on (``cgroup.subtree_control``) its files are not there."""
    root = second(tmp_path / "cgroup", "docker/{id}")
    (root / "docker" / ID / name).unlink()
    assert cgroups.read(ID, root=root, proc=proc) is None


def test_version_2_without_the_cpu_controller_still_tells_what_was_used(tmp_path, proc):
    root = second(tmp_path / "cgroup", "docker/{id}")
    (root / "docker" / ID / "cpu.stat").write_text("usage_usec 34644\nuser_usec 20000\nsystem_usec 14644\n")
    reading = cgroups.read(ID, root=root, proc=proc)
    assert reading and reading.cpu_us == 34_644


@pytest.mark.parametrize("own", ["empty", "threaded"])
def test_a_group_that_only_holds_groups_is_read_with_the_network_of_one_below(tmp_path, proc, own):
    """Version 2 has no processes beside groups: an init inside moves its own into one. The counts are of all of it."""
    root = second(tmp_path / "cgroup", "docker/{id}")
    group = root / "docker" / ID
    (group / "cgroup.procs").write_text("")
    if own == "threaded":  # then the kernel refuses to read it
        (group / "cgroup.procs").unlink()
        (group / "cgroup.procs").mkdir()
    write(group / "empty.slice", {"cgroup.procs": ""})
    write(group / "init.scope/inner", {"cgroup.procs": "13202\n", "memory.current": "1\n"})
    reading = cgroups.read(ID, root=root, proc=proc)
    assert reading and (reading.net_in, reading.mem_bytes, reading.pids) == (1_927, 5_173_248, 2)


def test_a_process_of_another_pid_namespace_is_zero_and_no_reading(tmp_path, proc):
    root = second(tmp_path / "cgroup", "docker/{id}")
    (root / "docker" / ID / "cgroup.procs").write_text("0\n")
    assert cgroups.read(ID, root=root, proc=proc) is None


def test_a_group_made_anew_is_another_life(tmp_path, proc):
    root = second(tmp_path / "cgroup", "docker/{id}")
    before = cgroups.read(ID, root=root, proc=proc)
    group = root / "docker" / ID
    group.rename(group.with_name("gone"))
    write(group, V2)
    after = cgroups.read(ID, root=root, proc=proc)
    assert before and after and before.life != after.life


def test_an_answer_of_the_engine_is_read_as_docker_stats_reads_it():
    raw = {
        "pids_stats": {"current": 2},
        "cpu_stats": {"cpu_usage": {"total_usage": 34_644_528}},
        "memory_stats": {"usage": 5_177_344, "limit": 67_108_864, "stats": {"inactive_file": 4_096}},
        "networks": {"eth0": {"rx_bytes": 900, "tx_bytes": 500}, "eth1": {"rx_bytes": 27, "tx_bytes": 82}},
    }
    assert docker_usage.parse(raw) == Reading("", 34_644, 5_173_248, 67_108_864, 927, 582, 2)


def test_a_container_that_does_not_run_has_no_numbers():
    assert docker_usage.parse({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}) is None


@pytest.mark.docker
def test_the_engine_and_the_control_group_tell_of_the_same_agent(docker_bench):
    spec, handle = docker_bench.serving()
    stopped = docker_bench.runtime.create(docker_bench.make_spec())
    engine = docker_bench.runtime.engine
    by_api = until(lambda: docker_usage.by_api(engine, [handle.id, stopped.id, "f" * 64]))
    assert list(by_api) == [handle.id]
    own = cgroups.read(handle.id)
    assert own and own.mem_limit == by_api[handle.id].mem_limit == spec.memory_mb * 1_048_576
    assert own.cpu_us >= by_api[handle.id].cpu_us > 0
    assert abs(own.mem_bytes - by_api[handle.id].mem_bytes) < 4 * 1_048_576
    assert own.pids == by_api[handle.id].pids


@pytest.mark.docker
def test_an_engine_whose_groups_can_t_be_seen_is_asked(docker_bench, monkeypatch):
    _, handle = docker_bench.serving()
    monkeypatch.setattr(cgroups.read, "__kwdefaults__", {"root": Path("/nowhere"), "proc": Path("/nowhere")})
    assert docker_bench.runtime.measure([handle])[handle.id].cpu_us > 0
