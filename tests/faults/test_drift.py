"""R21: what somebody changes behind our back, on a real engine, is put back or told with a reason. And nothing else."""

from __future__ import annotations

import shutil
import time
import uuid

import pytest
from django.conf import settings

from audit.models import AuditEntry
from tenants import reconcile, services
from tenants.models import Tenant
from tenants.runtimes import docker_helper
from tenants.runtimes.base import LABEL_INSTANCE, LABEL_TENANT
from tenants.runtimes.docker_engine import Engine
from tenants.runtimes.docker_networks import network_name
from tenants.states import RunStatus, Status
from tests.faults.world import assert_world
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def world(docker_world):
    docker_world.mark()
    return docker_world


@pytest.fixture
def engine():
    """The engine itself, past the wire: somebody with ``docker`` at a shell."""
    real = Engine(settings.DOCKER_HOST)
    return lambda verb, *args, **more: real.call(verb, *args, limit_s=60, **more)


@pytest.fixture
def tenant(world):
    return world.arrange(Status.RUNNING)


def network_of(tenant):
    return network_name(tenant.slot)


def disconnect(engine, tenant):
    engine("disconnect_container_from_network", tenant.handle["id"], network_of(tenant), force=True)


def loosen(engine, tenant):
    engine("update_container", tenant.handle["id"], mem_limit="2g", memswap_limit="2g")


def join_another(engine, tenant):
    engine("connect_container_to_network", tenant.handle["id"], "bridge")


DRIFTS = {
    "removed": (lambda e, t: e("remove_container", t.handle["id"], force=True), "agent_absent"),
    "stopped": (lambda e, t: e("stop", t.handle["id"], timeout=1), "agent_down"),
    "killed": (lambda e, t: e("kill", t.handle["id"]), "agent_down"),
    "paused": (lambda e, t: e("pause", t.handle["id"]), "agent_changed"),
    "cut off its network": (disconnect, "agent_changed"),
    "put on another network": (join_another, "agent_changed"),
    "given more memory": (loosen, "agent_changed"),
    "without its folder": (lambda e, t: shutil.rmtree(t.folder), "folder_absent"),
    "without its data": (lambda e, t: shutil.rmtree(t.folder / "data"), "folder_absent"),
    "without its configuration": (lambda e, t: (t.folder / "config" / "demo.json").unlink(), "config_differs"),
    "with a folder of root's": (lambda e, t: shutil.chown(t.folder / "data", 0, 0), "folder_absent"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_r21_an_agent_that_was(world, engine, tenant, drift):
    act, cause = DRIFTS[drift]
    act(engine, tenant)
    found = world.settle()
    assert cause in found, found
    tenant = world.fresh()
    assert (tenant.status, tenant.reason) == (Status.RUNNING, "")
    assert AuditEntry.objects.filter(tenant_id=str(tenant.public_id), action="tenant.drift").exists()
    inside = engine("inspect_container", tenant.handle["id"])
    assert list(inside["NetworkSettings"]["Networks"]) == [network_of(tenant)]
    assert inside["HostConfig"]["Memory"] == tenant.plan.memory_limit_mb << 20
    assert_world(world)


def test_r21_what_runs_after_its_folder_was_removed_writes_into_the_new_one(world, engine, tenant):
    """A bind mount keeps the folder that is gone: without a restart the agent would write where nobody looks."""
    shutil.rmtree(tenant.folder)
    world.settle()
    tenant = world.fresh()
    world.runtime.exec(
        tenant.agent_handle,
        ["/usr/bin/python3", "-I", "-S", "-c", "import pathlib; pathlib.Path('/data/mark').write_text('here')"],
    )
    assert (tenant.folder / "data" / "mark").read_text() == "here"


def test_r21_a_network_removed_under_a_stopped_tenant_does_not_keep_it_from_starting(world, engine, tenant):
    """A stopped container is tied to its network's id: one made anew under the same name is another."""
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    name = network_of(tenant)
    neighbour = Tenant.objects.get(pk=world.neighbours[0].pk)
    world.drive(services.stop(actor=OPERATOR, tenant=neighbour))
    engine("remove_network", name)
    for who in (tenant, neighbour):
        run = world.drive(services.start(actor=OPERATOR, tenant=who))
        assert (run.status, run.error) == (RunStatus.SUCCEEDED, "")
    world.untouched = world.photo()
    assert_world(world)


def test_r14_routes_changed_in_caddy_by_hand_are_put_back(world, tenant):
    server = world.caddy.server()
    name = f"/config/apps/http/servers/zcplatform-{settings.INSTANCE}"
    assert world.caddy.admin("DELETE", name).status_code == 200
    assert {d.what for d in reconcile.sync_routes()} == {"route_missing", "platform_route_missing"}
    world.caddy.admin("DELETE", f"/id/zc-{tenant.public_id}")
    assert [d.what for d in reconcile.sync_routes()] == ["route_missing"]
    assert world.caddy.server() == server
    assert_world(world)


def test_f12_an_orphan_with_our_label_is_stopped_told_and_kept_and_strangers_are_never_touched(world, engine, tenant):
    """Ours by label but of no tenant (a restored database, say); and two that only look like ours."""
    image = engine("inspect_container", tenant.handle["id"])["Image"]
    others = {
        "orphan": {LABEL_INSTANCE: settings.INSTANCE, LABEL_TENANT: str(uuid.uuid4())},
        "of another installation": {LABEL_INSTANCE: "another0", LABEL_TENANT: str(tenant.public_id)},
        "without labels": {},
    }
    made = {}
    try:
        for what, labels in others.items():
            command = ["/usr/bin/python3", "-c", "import time; time.sleep(600)"]
            body = {"Image": image, "Entrypoint": command, "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
            made[what] = engine(
                "create_container_from_config", body, f"{settings.CONTAINER_PREFIX}-{uuid.uuid4().hex}"
            )["Id"]
            engine("start", made[what])
        world.settle()
        states = {what: engine("inspect_container", id)["State"]["Status"] for what, id in made.items()}
        assert states == {"orphan": "exited", "of another installation": "running", "without labels": "running"}
        told = AuditEntry.objects.filter(action="platform.reconcile", resource_id=made["orphan"][:64])
        assert told.count() == 1
        found = [f.difference for f in reconcile.look(world.node)]
        assert [(d.what, d.action) for d in found] == [("agent_unknown", "report")], "it stays to be looked at"
        reconcile.sweep()
        assert told.count() == 1
    finally:
        for container in made.values():
            engine("remove_container", container, force=True)
    assert_world(world)


def test_a_helper_that_a_killed_worker_left_behind_is_removed_once_it_is_old(world, engine, tenant, monkeypatch):
    image = engine("inspect_container", tenant.handle["id"])["Image"]
    labels = {LABEL_INSTANCE: settings.INSTANCE, docker_helper.LABEL_HELPER: "test"}
    body = {"Image": image, "Entrypoint": ["/usr/bin/python3"], "Labels": labels}
    helper = engine("create_container_from_config", body)["Id"]
    assert world.runtime.tidy() == []
    monkeypatch.setattr(docker_helper, "HELPER_S", 0.5)
    time.sleep(2)  # the engine tells whole seconds
    reconcile.sweep()
    assert helper not in {row["Id"] for row in engine("containers", all=True)}
    assert_world(world)
