"""Creating, starting and finding containers: races, what went wrong before, and what is not ours."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
from contextlib import closing
from dataclasses import replace

import pytest

from tenants.runtimes.base import AgentState, Handle
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_engine import CREATE_S, Engine, Refused
from tests.tenants.runtimes.contract import healthy, until
from zcplatform.lib.errors import DependencyTimeout, RunFailed

pytestmark = pytest.mark.docker


def _create(spec):
    return DockerRuntime().create(spec)


def test_r10_four_processes_create_one_container(docker_bench):
    spec = docker_bench.make_spec()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        handles = pool.map(_create, [replace(spec, epoch=n) for n in range(4)], chunksize=1)
    assert len(set(handles)) == 1
    assert [seen.handle for seen in docker_bench.runtime.find(spec.tenant)] == handles[:1]


def test_g10_a_container_that_was_loosened_is_replaced_and_not_adopted(docker_bench):
    spec = docker_bench.make_spec()
    runtime = docker_bench.runtime
    made = runtime.create(spec)
    assert runtime.create(spec) == made
    runtime.engine.call("update_container", made.id, mem_limit=3 << 30, memswap_limit=3 << 30)
    again = runtime.create(spec)
    assert again.id != made.id
    assert runtime.inspect(made).state == AgentState.ABSENT
    runtime.start(again)
    assert runtime.deviations(spec, again) == []


def test_r6_a_container_that_appears_between_look_and_create_is_adopted(docker_bench, monkeypatch):
    spec = docker_bench.make_spec()
    call, made = Engine.call, []

    def overtaken(self, verb, *args, **kwargs):
        if verb == "create_container_from_config" and not made:
            made.append(call(self, verb, *args, **kwargs)["Id"])
        return call(self, verb, *args, **kwargs)

    monkeypatch.setattr(Engine, "call", overtaken)
    assert docker_bench.runtime.create(spec).id == made[0]


@pytest.mark.parametrize("verb", ["create_container_from_config", "start", "remove_container"])
def test_an_act_whose_reply_was_lost_is_found_done_the_next_time(docker_bench, monkeypatch, verb):
    spec = docker_bench.make_spec()
    call, lost = Engine.call, []

    def drop(self, name, *args, **kwargs):
        answer = call(self, name, *args, **kwargs)
        if name == verb and not lost:
            lost.append(answer)
            raise DependencyTimeout("the reply was lost")
        return answer

    def everything():
        handle = docker_bench.runtime.create(spec)
        docker_bench.runtime.start(handle)
        assert len(docker_bench.runtime.find(spec.tenant)) == 1
        docker_bench.runtime.remove(handle)
        return handle

    monkeypatch.setattr(Engine, "call", drop)
    with pytest.raises(DependencyTimeout):
        everything()
    if verb == "create_container_from_config":
        assert everything().id == lost[0]["Id"]
    else:
        everything()
    assert docker_bench.runtime.find(spec.tenant) == []


def test_r6_another_tenant_of_ours_with_the_name_is_not_touched(docker_bench):
    spec = docker_bench.make_spec()
    other = docker_bench.runtime.create(replace(docker_bench.make_spec(), name=spec.name))
    with pytest.raises(RunFailed) as failed:
        docker_bench.runtime.create(spec)
    assert failed.value.type == "name_conflict"
    assert docker_bench.runtime.inspect(other).state == AgentState.CREATED


def test_several_of_ours_are_all_replaced_by_one(docker_bench):
    spec = docker_bench.make_spec()
    old = [docker_bench.runtime.create(spec)]
    docker_bench.runtime.engine.call("rename", old[0].id, f"{spec.name}-old")
    body = docker_bench.runtime.engine.call("inspect_container", old[0].id)
    labels = {"Image": spec.image, "Labels": body["Config"]["Labels"], "Cmd": ["x"]}
    docker_bench.runtime.engine.call("create_container_from_config", labels, f"{spec.name}-twin", limit_s=CREATE_S)
    assert len(docker_bench.runtime.find(spec.tenant)) == 2
    new = docker_bench.runtime.create(spec)
    assert [seen.handle for seen in docker_bench.runtime.find(spec.tenant)] == [new]


def test_r7_after_a_taken_port_create_copes_with_another_and_with_the_same(docker_bench):
    spec = docker_bench.make_spec()
    handle = docker_bench.runtime.create(spec)
    with closing(socket.socket()) as stranger:
        stranger.bind(("127.0.0.1", spec.port))
        stranger.listen()
        with pytest.raises(RunFailed) as failed:
            docker_bench.runtime.start(handle)
        assert failed.value.type == "port_conflict"
        left = docker_bench.runtime.inspect(handle)
        assert (left.state, left.port, left.exit_code) == (AgentState.CREATED, spec.port, None)
        moved = docker_bench.make_spec(tenant=spec.tenant, uid=spec.uid)
        other = docker_bench.runtime.create(moved)
        docker_bench.runtime.start(other)
        until(lambda: healthy(moved.port))
    assert docker_bench.runtime.inspect(handle).state == AgentState.ABSENT
    again = docker_bench.runtime.create(spec)
    docker_bench.runtime.start(again)
    until(lambda: healthy(spec.port))


def test_a_folder_that_is_not_there_is_named_and_not_made(docker_bench):
    spec = docker_bench.make_spec()
    shutil.rmtree(spec.folder)
    with pytest.raises(RunFailed) as failed:
        docker_bench.runtime.create(spec)
    assert failed.value.type == "folder_failed"
    with pytest.raises(FileNotFoundError):
        shutil.rmtree(spec.folder)


def test_an_image_that_is_gone_is_image_missing(docker_bench):
    with pytest.raises(RunFailed) as failed:
        docker_bench.runtime.create(docker_bench.make_spec(image="sha256:" + "00" * 32))
    assert failed.value.type == "image_missing"


def test_a_network_that_is_gone_is_network_failed(docker_bench):
    spec = docker_bench.make_spec(slot=777_000)
    with pytest.raises(RunFailed) as failed:
        docker_bench.runtime.start(docker_bench.runtime.create(spec))
    assert failed.value.type == "network_failed"


def test_a_command_that_is_not_in_the_image_is_a_crash_that_says_why(docker_bench):
    """With an init of its own the container starts, and its init says what is wrong."""
    _, handle = docker_bench.running(argv=("/no/such/program",))
    until(lambda: docker_bench.runtime.inspect(handle).restarts >= 1)
    assert "/no/such/program" in docker_bench.runtime.logs(handle)


def test_r21_a_paused_agent_runs_on_when_it_is_started(docker_bench):
    spec, handle = docker_bench.serving()
    docker_bench.runtime.engine.call("pause", handle.id)
    with pytest.raises(Exception, match="does not run"):
        docker_bench.runtime.exec(handle, ["true"])
    docker_bench.runtime.start(handle)
    assert healthy(spec.port)


def test_r21_a_container_removed_by_hand_is_absent(docker_bench):
    spec, handle = docker_bench.running()
    docker_bench.runtime.engine.call("remove_container", handle.id, force=True)
    assert docker_bench.runtime.inspect(handle).state == AgentState.ABSENT
    assert docker_bench.runtime.find(spec.tenant) == []


def test_a_name_finds_nothing_where_an_id_is_wanted(docker_bench):
    """A stale handle must not reach the container that has its name now."""
    spec = docker_bench.make_spec()
    old = docker_bench.runtime.create(spec)
    docker_bench.runtime.remove(old)
    new = docker_bench.runtime.create(replace(spec, config_hash="2"))
    docker_bench.runtime.remove(Handle(old.runtime, old.name, old.id))
    assert docker_bench.runtime.inspect(new).state == AgentState.CREATED


def test_removals_at_once_are_one_removal(docker_bench, monkeypatch):
    _, handle = docker_bench.running()
    call, refused = Engine.call, []

    def busy(self, verb, *args, **kwargs):
        if verb == "remove_container" and not refused:
            refused.append(True)
            call(self, verb, *args, **kwargs)
            raise Refused("removal of container is already in progress", type="internal_error", http_status=409)
        return call(self, verb, *args, **kwargs)

    monkeypatch.setattr(Engine, "call", busy)
    docker_bench.runtime.remove(handle)
    assert docker_bench.runtime.inspect(handle).state == AgentState.ABSENT


def test_check_tells_what_doctor_wants_to_know(installation):
    info = installation.check()
    assert {"cgroup_version", "security_options", "storage_driver", "rootless"} <= set(info.detail)
    assert any("seccomp" in option for option in info.detail["security_options"])


def test_logs_are_clamped(docker_bench):
    _, handle = docker_bench.serving()
    until(lambda: "line 5" in docker_bench.runtime.logs(handle))
    assert docker_bench.runtime.logs(handle, tail=-1).splitlines() == ["line 5"]
    assert "line 1" in docker_bench.runtime.logs(handle, tail=10**12)
