"""The process runtime: the contract as root and as the caller, and what is its own."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tenants.runtimes.process import ProcessRuntime
from tests.tenants.runtimes.contract import Bench, RealAgentContract, Stranger, tiny_spec


def bench_in(home: Path, settings, python: str) -> Bench:
    settings.HOME = home
    runtime = ProcessRuntime()

    @contextmanager
    def stranger(spec):
        ours, settings.INSTANCE = settings.INSTANCE, "another0"
        handle = ProcessRuntime().create(replace(spec, instance="another0"))
        settings.INSTANCE = ours
        kept = home / "run" / spec.tenant / "spec.json"
        before = kept.read_bytes()
        yield Stranger(handle=handle, untouched=lambda: kept.read_bytes() == before)

    return Bench(
        runtime=runtime,
        again=ProcessRuntime,
        make_spec=lambda behaviour="serve", **changes: tiny_spec(runtime, behaviour, python=python, **changes),
        stranger=stranger,
        python=python,
    )


@pytest.fixture
def bench(tmp_path, settings):
    settings.ALLOW_UNPRIVILEGED_PROCESS = True
    bench = bench_in(tmp_path / "home", settings, sys.executable)
    (tmp_path / "home").mkdir()
    yield bench
    for seen in bench.runtime.list():
        bench.runtime.remove(seen.handle)


class TestProcessRuntime(RealAgentContract):
    """The contract with the caller's own uid."""
