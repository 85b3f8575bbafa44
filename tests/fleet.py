"""A thousand tenants that run, in the database, on the disk and in a fake engine: for tests and benches of scale."""

from __future__ import annotations

import os
from pathlib import Path

from tenants.models import AgentConfig, Node, Plan, Run, Tenant
from tenants.provisioning.spec import build_spec, hash_files
from tenants.runtimes.base import AgentState, Handle
from tenants.states import Desired, Health, RunKind, RunStatus, Status
from tests.fakes import FakeAgent, FakeEngine
from zcplatform.lib import clock

IMAGE = "fake:demo"


def running_fleet(count: int, node: Node, plan: Plan, engine: FakeEngine, *, first: int = 0) -> list[Tenant]:
    """``count`` running tenants from slot ``first`` on, as a deploy would leave them, though without secrets."""
    now, empty = clock.now(), hash_files({})
    rows = [
        Tenant(
            slug=f"fleet-{slot}",
            name=f"Fleet {slot}",
            plan=plan,
            node=node,
            agent_kind="demo",
            desired=Desired.RUNNING,
            status=Status.RUNNING,
            health=Health.OK,
            health_at=now,
            running_since=now,
            slot=slot,
            port=node.port_first + slot,
            uid=node.uid_first + slot,
            routed=True,
            config_hash=empty,
        )
        for slot in range(first, first + count)
    ]
    configs = [AgentConfig(tenant=tenant) for tenant in rows]  # the spec asks for it
    for tenant in rows:
        _agent(tenant, engine)
        for part in ("config", "data", "logs"):
            path: Path = tenant.folder / part
            path.mkdir(parents=True, mode=0o700)
            _own(path, tenant.uid or 0)
    made = Tenant.objects.bulk_create(rows, batch_size=200)
    AgentConfig.objects.bulk_create(configs)
    Run.objects.bulk_create(
        Run(tenant=t, kind=RunKind.PROVISION, status=RunStatus.SUCCEEDED, actor="system") for t in made
    )
    return made


def _agent(tenant: Tenant, engine: FakeEngine) -> None:
    spec = build_spec(tenant, run="r", epoch=1, image=IMAGE, config_hash=tenant.config_hash)
    handle = Handle(runtime="fake", name=spec.name, id=spec.name)
    engine.agents[spec.name] = FakeAgent(spec=spec, handle=handle, state=AgentState.RUNNING, started_at=clock.now())
    tenant.handle, tenant.fingerprint = handle.as_json(), spec.fingerprint()
    tenant.image = IMAGE


def _own(path: Path, uid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, uid)
