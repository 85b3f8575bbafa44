"""A bench on the real engine. What bears this test installation's label is removed before and after."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.conf import settings

from tenants.runtimes.base import LABEL_INSTANCE, AgentSpec, Handle
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_engine import CREATE_S, Engine, Refused
from tests.tenants.runtimes.contract import Bench, Stranger, tiny_spec

PYTHON = "/usr/bin/python3"
DEMO = "zcplatform-demo:latest"


def sweep(runtime: DockerRuntime) -> None:
    """Remove every container and network of this installation."""
    remove_labelled(runtime.engine, f"{LABEL_INSTANCE}={settings.INSTANCE}")
    runtime.remove_unused_networks()


def remove_labelled(engine: Engine, label: str) -> None:
    for row in engine.call("containers", all=True, filters={"label": label}):
        try:
            engine.call("remove_container", row["Id"], force=True, v=True, limit_s=CREATE_S)
        except Refused as error:
            if not (error.absent or error.conflict):
                raise


def bench_on(runtime: DockerRuntime) -> Bench:
    image = runtime.ensure_image(DEMO)
    runtime.ensure_network(0)
    return Bench(
        runtime=runtime,
        again=DockerRuntime,
        make_spec=partial(tiny_spec, runtime, python=PYTHON, image=image),
        stranger=partial(stranger, runtime.engine),
        python=PYTHON,
    )


@contextmanager
def stranger(engine: Engine, spec: AgentSpec) -> Iterator[Stranger]:
    """A container of another installation that has the agent's name, and even the tenant's label."""
    body = {
        "Image": spec.image,
        "Entrypoint": [PYTHON, "-c", "import time; time.sleep(600)"],
        "Labels": {LABEL_INSTANCE: f"other{uuid.uuid4().hex[:8]}", "zcplatform.tenant": spec.tenant},
        "HostConfig": {"NetworkMode": "none"},
    }
    container = engine.call("create_container_from_config", body, spec.name, limit_s=CREATE_S)["Id"]
    engine.call("start", container, limit_s=CREATE_S)
    before = engine.call("inspect_container", container)["State"]
    handle = Handle(runtime="docker", name=spec.name, id=container)
    try:
        yield Stranger(handle, lambda: engine.call("inspect_container", container)["State"] == before)
    finally:
        engine.call("remove_container", container, force=True, limit_s=CREATE_S)
