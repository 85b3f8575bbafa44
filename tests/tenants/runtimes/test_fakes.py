"""The fakes keep the contract too; otherwise what is tested with them proves nothing."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tenants.routing.base import Route, SyncResult
from tenants.runtimes.base import AgentState
from tests import fakes
from tests.tenants.runtimes.contract import Bench, RuntimeContract, Stranger, get, healthy, tiny_spec
from zcplatform.lib.errors import DependencyDown, DependencyTimeout, RunFailed


def bench_for(kind: type[fakes.FakeRuntime], endpoint: str) -> Bench:
    runtime = kind(endpoint)

    @contextmanager
    def stranger(spec):
        other = kind(endpoint)
        handle = other.create(replace(spec, instance="another0"))
        before = runtime.engine.agents[spec.name]
        yield Stranger(handle=handle, untouched=lambda: runtime.engine.agents.get(spec.name) is before)

    return Bench(
        runtime=runtime,
        again=lambda: kind(endpoint),
        make_spec=lambda behaviour="serve", **changes: tiny_spec(runtime, behaviour, python="python", **changes),
        stranger=stranger,
    )


@pytest.fixture(params=[fakes.ServingRuntime])
def bench(request):
    bench = bench_for(request.param, uuid.uuid4().hex)
    yield bench
    bench.runtime.engine.clear()


class TestFakeRuntime(RuntimeContract):
    """The contract, as far as it needs no real agent."""


def test_a_serving_agent_answers_until_it_is_stopped(bench):
    spec, handle = bench.running()
    assert healthy(spec.port)
    bench.runtime.stop(handle)
    assert not healthy(spec.port)


def test_logs_give_the_last_lines(bench):
    _, handle = bench.running()
    bench.runtime.engine.agents[handle.name].output += ["one", "two"]
    assert bench.runtime.logs(handle, tail=2) == "one\ntwo\n"


@pytest.fixture
def failing(request):
    bench = bench_for(request.param, uuid.uuid4().hex)
    yield bench
    bench.runtime.engine.clear()


@pytest.mark.parametrize("failing", [fakes.NeverHealthy], indirect=True)
def test_never_healthy_runs_and_answers_503(failing):
    spec, handle = failing.running()
    assert failing.runtime.inspect(handle).state == AgentState.RUNNING
    assert get(spec.port, "/health") is None


@pytest.mark.parametrize("failing", [fakes.BadRuntime], indirect=True)
def test_bad_runtime_fails_for_good(failing):
    with pytest.raises(RunFailed):
        failing.running()


@pytest.mark.parametrize("failing", [fakes.VanishingRuntime], indirect=True)
def test_vanishing_agents_are_absent_after_the_start(failing):
    _, handle = failing.running()
    assert failing.runtime.inspect(handle).state == AgentState.ABSENT


@pytest.mark.parametrize("failing", [fakes.DownRuntime], indirect=True)
def test_down_runtime_answers_no_verb(failing):
    spec = failing.make_spec()
    handle = fakes.Handle("fake", spec.name, "x")
    runtime = failing.runtime
    for verb in (
        runtime.check,
        lambda: runtime.ensure_image("i"),
        lambda: runtime.ensure_network(0),
        lambda: runtime.create(spec),
        lambda: runtime.start(handle),
        lambda: runtime.stop(handle),
        lambda: runtime.remove(handle),
        lambda: runtime.inspect(handle),
        lambda: runtime.find(spec.tenant),
        runtime.list,
        lambda: runtime.logs(handle),
        lambda: runtime.exec(handle, ["true"]),
    ):
        with pytest.raises(DependencyDown):
            verb()


@pytest.mark.parametrize("failing", [fakes.LostReplyRuntime], indirect=True)
def test_a_lost_reply_was_applied_and_the_second_try_finds_it(failing):
    spec = failing.make_spec()
    with pytest.raises(DependencyTimeout):
        failing.runtime.create(spec)
    [seen] = failing.runtime.find(spec.tenant)
    assert failing.again().create(spec) == seen.handle
    with pytest.raises(DependencyTimeout):
        failing.runtime.start(seen.handle)
    assert failing.runtime.inspect(seen.handle).state == AgentState.RUNNING
    failing.again().start(seen.handle)


def test_the_fake_router_is_brought_to_the_desired_set():
    router = fakes.FakeRouter()
    one, two = (Route(tenant=t, slug=t, port=1, public_paths=()) for t in ("one", "two"))
    assert router.sync(lambda: [one, two]) == SyncResult(added=("one", "two"))
    assert not router.sync(lambda: [one, two])
    moved = replace(one, port=2)
    assert router.differences([moved]) == SyncResult(changed=("one",), removed=("two",))
    assert router.sync(lambda: [moved])
    assert router.connect("one")[0] == "http://127.0.0.1:2"


def test_the_down_router_answers_no_verb():
    router = fakes.DownRouter()
    for verb in (router.check, lambda: router.sync(list), lambda: router.differences([])):
        with pytest.raises(DependencyDown):
            verb()
