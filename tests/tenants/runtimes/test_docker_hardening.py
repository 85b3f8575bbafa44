"""What was loosened behind the platform's back is seen: on a real engine, and line by line on what it says."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from tenants.runtimes.docker_engine import CREATE_S
from tenants.runtimes.docker_hardening import deviations

pytestmark = pytest.mark.docker


@pytest.fixture
def running(docker_bench):
    return docker_bench.running()


def test_a_container_as_we_make_it_deviates_in_nothing(docker_bench, running):
    spec, handle = running
    assert docker_bench.runtime.deviations(replace(spec, run="another", epoch=9), handle) == []


def test_what_an_engines_operator_loosens_is_seen(docker_bench, running):
    spec, handle = running
    call = docker_bench.runtime.engine.call
    call("update_container", handle.id, mem_limit="512m", memswap_limit="1g", restart_policy={"Name": "no"})
    call("connect_container_to_network", handle.id, "bridge", limit_s=CREATE_S)
    found = " / ".join(docker_bench.runtime.deviations(spec, handle))
    for name in ("Memory is", "MemorySwap is", "RestartPolicy is 'no'", "networks is ['bridge', "):
        assert name in found


def test_what_does_not_run_is_not_judged(docker_bench, running):
    spec, handle = running
    docker_bench.runtime.stop(handle, grace_s=0)
    assert docker_bench.runtime.deviations(replace(spec, memory_mb=99), handle) == ()


PLANTED = [
    ("Config.User", "0:0", "user"),
    ("Config.Image", "sha256:other", "image"),
    ("Config.Cmd", ["sh"], "command"),
    ("Config.Env", [], "environment"),
    ("Config.Labels", {}, "label"),
    ("HostConfig.CapDrop", [], "CapDrop"),
    ("HostConfig.CapAdd", ["NET_RAW"], "CapAdd"),
    ("HostConfig.SecurityOpt", None, "SecurityOpt"),
    ("HostConfig.SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"], "SecurityOpt"),
    ("HostConfig.ReadonlyRootfs", False, "ReadonlyRootfs"),
    ("HostConfig.Privileged", True, "Privileged"),
    ("HostConfig.PidsLimit", None, "PidsLimit"),
    ("HostConfig.NanoCpus", 0, "NanoCpus"),
    ("HostConfig.PidMode", "host", "PidMode"),
    ("HostConfig.IpcMode", "host", "IpcMode"),
    ("HostConfig.Devices", [{"PathOnHost": "/dev/kmsg"}], "Devices"),
    ("HostConfig.Binds", ["/:/host"], "Binds"),
    ("HostConfig.Tmpfs", {"/tmp": "rw"}, "Tmpfs"),
    ("HostConfig.PortBindings", {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1"}]}, "PortBindings"),
    ("HostConfig.LogConfig", {"Type": "none", "Config": {}}, "LogConfig"),
    ("Mounts", [], "mounts"),
]


def test_each_planted_weakness_is_named(docker_bench, running):
    spec, handle = running
    raw, body = docker_bench.runtime.engine.call("inspect_container", handle.id), docker_bench.runtime._body(spec)
    assert deviations(raw, body) == []
    for path, value, name in PLANTED:
        planted = copy.deepcopy(raw)
        *parents, last = path.split(".")
        place = planted[parents[0]] if parents else planted
        place[last] = value
        found = deviations(planted, body)
        assert found, path
        assert all(name in line for line in found), (path, found)
