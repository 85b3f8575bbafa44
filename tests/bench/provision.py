"""From the accepted request to an agent that answers, and back, on a real engine; beside it the bare engine doing the
same with the same container, in the same run. First 1, 4 and 30 at once on an empty engine, then 4 at once while the
fleet grows to 300 containers. ``ZC_BENCH_FLEET`` sets another size, for a machine with less memory than 6 GB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from tenants import cli, hardening, reconcile, services
from tenants.models import Node, Tenant
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_engine import CREATE_S, START_S
from tests import counterparts
from tests.bench import Row, Skipped, Took, at_once, size
from tests.factories import NodeFactory, PlanFactory
from tests.tenants.runtimes.contract import free_port, healthy, until
from tests.tenants.runtimes.docker_bench import sweep
from vault.services import create_keyring
from zcplatform.lib.actors import OPERATOR, SYSTEM

BATCH = 4
AT_ONCE = size((1, 4, 30), (1, 2))
FLEET = int(os.environ.get("ZC_BENCH_FLEET", size("300", "4")))
MARKS = [mark for mark in (10, 50, 100, 200) if mark < FLEET] + [FLEET]


def run() -> list[Row]:
    if reason := counterparts.missing("docker"):
        raise Skipped(reason)
    settings.ROUTER = "direct"
    call_command("migrate", verbosity=0)
    create_keyring(actor=SYSTEM)
    PlanFactory()
    node, runtime = NodeFactory(name="docker", runtime="docker"), DockerRuntime()
    try:
        _turn(runtime, node, 1)  # builds the image and the network, warms the caches
        rows = [row for count in AT_ONCE for row in _turn(runtime, node, count)]
        return rows + list(_growth(runtime, node))
    finally:
        sweep(runtime)


def _growth(runtime: DockerRuntime, node: Node) -> Iterator[Row]:
    """How a deploy and a removal of four at once change as the fleet grows, and what a whole look at it costs."""
    there = 0
    for mark in MARKS:
        while there < mark:
            batch = min(BATCH, mark - there)
            at_once(_deploy, [f"fleet-{there + number}" for number in range(batch)])
            there += batch
        yield Row(f"among {mark} containers", "")
        yield from _turn(runtime, node, BATCH)
        began = perf_counter()
        assert reconcile.look(node, thorough=True) == []
        yield Row(f"  reconcile looks at all {mark}", f"{perf_counter() - began:.2f} s", "≤ 60 s for 1,000")
    fleet = list(Tenant.objects.alive().filter(node=node, slug__startswith="fleet-").select_related("node", "plan"))
    began = perf_counter()
    for number in range(0, len(fleet), BATCH):
        at_once(_delete, fleet[number : number + BATCH])
    yield Row(f"removal of all {len(fleet)}, each", f"{(perf_counter() - began) / len(fleet) * 1000:.0f} ms")


def _turn(runtime: DockerRuntime, node: Node, count: int) -> list[Row]:
    up = at_once(_deploy, [f"bench-{count}-{number}" for number in range(count)])
    rows = Tenant.objects.alive().filter(node=node, slug__startswith="bench-")
    tenants = list(rows.select_related("node", "plan"))
    bodies = [_body(runtime, tenant) for tenant in tenants]
    raw_up = at_once(lambda body: _raw_up(runtime, body), bodies)
    raw_down = at_once(lambda body: _raw_down(runtime, body), bodies)
    down = at_once(_delete, tenants)
    return [
        _wall(count, "running", up, raw_up, f"≤ {raw_up.wall + 0.25:.2f} s (engine + 0.25)"),
        Row("  our CPU, each", f"{up.cpu / count * 1000:.0f} ms", "≤ 50 ms", f"{raw_up.cpu / count * 1000:.0f} ms"),
        _wall(count, "deleted", down, raw_down, ""),
        Row("  our CPU, each", f"{down.cpu / count * 1000:.0f} ms", "", f"{raw_down.cpu / count * 1000:.0f} ms"),
    ]


def _wall(count: int, end: str, ours: Took, raw: Took, target: str) -> Row:
    """For all of them together, and a tenant's share of it."""
    measured = f"{ours.wall:.2f} s, {ours.wall / count * 1000:.0f} ms each"
    peer = f"bare engine {raw.wall:.2f} s (×{ours.wall / raw.wall:.2f})"
    return Row(f"{count} at once: asked to {end}", measured, target, peer)


def _deploy(name: str) -> None:
    try:
        created = services.create_tenant(actor=OPERATOR, name=name, plan="pro", runtime="docker", deploy_now=True)
        assert created.run is not None
        run = cli.drive(created.run)
        assert run.status == "succeeded", run.error
    finally:
        connection.close()


def _delete(tenant: Tenant) -> None:
    try:
        run = cli.drive(services.delete(actor=OPERATOR, tenant=tenant, purge=True))
        assert run.status == "succeeded", run.error
    finally:
        connection.close()


def _body(runtime: DockerRuntime, tenant: Tenant) -> dict[str, Any]:
    """The tenant's own container, on another port and under no tenant's label."""
    body = deepcopy(runtime._body(hardening.spec_of(tenant)))
    body["port"], body["Labels"] = free_port(), {"zcplatform.instance": settings.INSTANCE}
    for bindings in body["HostConfig"]["PortBindings"].values():
        bindings[0]["HostPort"] = str(body["port"])
    return body


def _raw_up(runtime: DockerRuntime, body: dict[str, Any]) -> None:
    port = body.pop("port")
    body["id"] = runtime.engine.call("create_container_from_config", dict(body), limit_s=CREATE_S)["Id"]
    runtime.engine.call("start", body["id"], limit_s=START_S)
    until(lambda: healthy(port))


def _raw_down(runtime: DockerRuntime, body: dict[str, Any]) -> None:
    runtime.engine.call("stop", body["id"], timeout=10, limit_s=START_S)
    runtime.engine.call("remove_container", body["id"], limit_s=START_S)
