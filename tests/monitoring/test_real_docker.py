"""What happens to agents on a real engine: killed for memory, ended, hung, without an image, stopped by hand; and an
engine that is gone. Turns of the sweep follow each other at once here, so that two minutes are four turns."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from audit.models import AuditEntry
from monitoring import probing, strikes
from monitoring.collectors import health, resources
from monitoring.models import ResourceSnapshot
from tenants import reconcile, runtimes, services
from tenants.configuration import ConfigInput
from tenants.models import Node, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes import runtime_for, shim_tree
from tenants.states import Health, Reason, RunKind, Status
from tests import ports
from tests.factories import NodeFactory, PlanFactory
from tests.tenants.runtimes.conftest import emptied, installation  # noqa: F401 - fixtures
from tests.tenants.runtimes.contract import until
from zcplatform.lib.actors import OPERATOR

pytestmark = pytest.mark.docker
SOCKET = "/var/run/docker.sock"
PATIENCE_S = 120


class Proxy:
    """A socket before the engine's. ``mode``: ``on``, ``off`` (refuses) or ``hang`` (accepts and never answers)."""

    def __init__(self, path):
        self.path, self.mode, self.open = path, "on", []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, mode="off"):
        self.mode = mode
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.open.clear()

    def close(self):
        self.cut()
        self.listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                self.open.append(client)
                if self.mode == "off":
                    client.close()
                elif self.mode == "on":
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(SOCKET)
                    self.open.append(server)
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class Fleet:
    def __init__(self, runtime):
        self.engine = runtime.engine

    def deploy(self, name="Acme", **extra):
        config = ConfigInput(extra=extra) if extra else None
        created = services.create_tenant(
            actor=OPERATOR, name=name, plan="pro", runtime="docker", config=config, deploy_now=True
        )
        self.drive()
        return self.fresh(created.tenant)

    @staticmethod
    def fresh(tenant):
        return Tenant.objects.select_related("node", "plan").get(pk=tenant.pk)

    def drive(self):
        """Execute what is under way until nothing is."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            active = [run for t in Tenant.objects.all() for run in t.runs.all() if run.is_active]
            if not active:
                return
            for run in active:
                type(run).objects.filter(pk=run.pk).update(next_attempt_at="2020-01-01T00:00:00Z")
                execute(run.pk, PROCEDURE)
        raise AssertionError("a run does not end")

    def container(self, tenant):
        return self.engine.call("inspect_container", self.fresh(tenant).handle["id"])

    def agent_pids(self, tenant):
        return shim_tree.descendants(self.container(tenant)["State"]["Pid"])

    def signal(self, tenant, number):
        for pid in self.agent_pids(tenant):
            os.kill(pid, number)

    def sweep_until(self, tenant, status):
        """Turn after turn, runs executed, until the tenant has this status."""

        def there():
            time.sleep(0.5)  # of the 30 s that lie between two turns
            health.sweep()
            self.drive()
            return self.fresh(tenant).status == status

        until(there, patience_s=PATIENCE_S)
        return self.fresh(tenant)


def actions(tenant):
    return set(AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).values_list("action", flat=True))


@pytest.fixture
def fleet(transactional_db, vault_key, settings, tmp_path, monkeypatch, emptied):  # noqa: F811
    tmp_path.chmod(0o711)
    settings.HOME, settings.ROUTER = tmp_path, "direct"
    monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.5)
    runtimes._driver.cache_clear()
    NodeFactory(name="engine", runtime="docker", port_first=ports.CONTAINERS[0], port_last=ports.CONTAINERS[1])
    PlanFactory(memory_limit_mb=64)
    return Fleet(emptied)


def test_r16_one_that_is_killed_for_its_memory_again_and_again(fleet, monkeypatch):
    monkeypatch.setattr(strikes, "PAUSES", (0,))
    tenant = fleet.deploy(faults={"leak_mb_per_s": 40})
    tenant = fleet.sweep_until(tenant, Status.ERROR)
    assert tenant.reason == Reason.OOM_KILLED
    assert "ran out of memory (64 MB)" in tenant.detail
    assert {"tenant.restart"} <= actions(tenant)


def test_r16_one_that_ends_again_and_again(fleet, monkeypatch):
    monkeypatch.setattr(strikes, "PAUSES", (0,))
    tenant = fleet.deploy(faults={"crash_after_s": 1})
    tenant = fleet.sweep_until(tenant, Status.ERROR)
    assert tenant.reason == Reason.CRASH_LOOP
    assert re.search(r"ended \d+ times", tenant.detail)  # with its exit code, unless it is just up again
    assert {"tenant.restart"} <= actions(tenant)


def test_one_that_hangs_is_restarted_and_one_that_hangs_again_is_given_up(fleet, monkeypatch):
    monkeypatch.setattr(strikes, "PAUSES", (0,))
    tenant = fleet.deploy()
    well = fleet.deploy("Well")
    before = fleet.agent_pids(tenant)
    fleet.signal(tenant, signal.SIGSTOP)
    until(lambda: health.sweep() and tenant.runs.filter(kind=RunKind.RESTART).exists())
    fleet.drive()
    assert (fleet.fresh(tenant).status, fleet.fresh(tenant).health) == (Status.RUNNING, Health.OK)
    assert not set(before) & set(fleet.agent_pids(tenant))
    assert tenant.runs.get(kind=RunKind.RESTART).params["cause"].startswith("unhealthy: ")
    fleet.signal(tenant, signal.SIGSTOP)
    tenant = fleet.sweep_until(tenant, Status.ERROR)
    assert (tenant.reason, tenant.routed) == (Reason.UNHEALTHY, False)
    assert "it did not answer in time" in tenant.detail
    assert {"tenant.restart", "tenant.failed"} <= actions(tenant)
    assert (fleet.fresh(well).health, well.runs.count()) == (Health.OK, 1)
    fleet.signal(tenant, signal.SIGCONT)
    monkeypatch.setattr(strikes, "PAUSES", (0, 0))
    tenant = fleet.sweep_until(tenant, Status.RUNNING)
    assert (tenant.health, tenant.routed) == (Health.OK, True)
    assert {"tenant.drift", "tenant.repair"} <= actions(tenant)


@pytest.mark.parametrize("act", ["stop", "remove_container"])
def test_r21_one_that_was_stopped_or_removed_by_hand_comes_back(fleet, act):
    tenant = fleet.deploy()
    more = {"timeout": 0} if act == "stop" else {"force": True}
    fleet.engine.call(act, tenant.handle["id"], **more, limit_s=30)
    for _ in range(4):
        health.sweep()
    assert fleet.fresh(tenant).health == Health.FAILING
    assert not tenant.runs.filter(kind=RunKind.RESTART).exists(), "drift is reconcile's"
    reconcile.sweep()
    fleet.drive()
    health.sweep()
    tenant = fleet.fresh(tenant)
    assert (tenant.status, tenant.health) == (Status.RUNNING, Health.OK)
    assert {"tenant.drift", "tenant.repair"} <= actions(tenant)


def test_one_whose_image_vanished(fleet, settings):
    name = f"zct-vanishing-{settings.INSTANCE}"
    fleet.deploy("First")
    fleet.engine.call("tag", settings.AGENT_IMAGES["demo"], name, "1")
    settings.AGENT_IMAGES = {**settings.AGENT_IMAGES, "demo": f"{name}:1"}
    try:
        tenant = fleet.deploy("Second")
        assert tenant.status == Status.RUNNING
    finally:
        fleet.engine.call("remove_image", f"{name}:1", noprune=True)
    fleet.engine.call("remove_container", tenant.handle["id"], force=True, limit_s=30)
    health.sweep()
    reconcile.sweep()
    fleet.drive()
    tenant = fleet.fresh(tenant)
    assert (tenant.status, tenant.reason) == (Status.ERROR, Reason.IMAGE_MISSING)
    assert {"tenant.drift", "tenant.repair", "run.finish"} <= actions(tenant)


@pytest.mark.parametrize("mode", ["off", "hang"])
def test_r4_r5_an_engine_that_is_gone_for_two_minutes_marks_nobody(fleet, tmp_path, monkeypatch, mode):
    tenants = [fleet.deploy(f"Tenant {number}") for number in range(3)]
    monkeypatch.setattr("tenants.runtimes.docker.CREATE_S", 2)
    proxy = Proxy(tmp_path / "engine.sock")
    try:
        Node.objects.update(endpoint=f"unix://{proxy.path}")
        assert runtime_for(Node.objects.get()).check().kind == "docker"
        assert health.sweep().failures == 0
        for tenant in tenants[:2]:
            fleet.signal(tenant, signal.SIGSTOP)
        proxy.cut(mode)
        for _ in range(4):
            assert health.sweep().failures == 2
            assert reconcile.sweep() == 0
        states = [(t.status, t.health, t.runs.count()) for t in map(fleet.fresh, tenants)]
        assert states == [(Status.RUNNING, Health.UNKNOWN, 1)] * 2 + [(Status.RUNNING, Health.OK, 1)]
        proxy.mode = "on"
        for tenant in tenants[:2]:
            fleet.signal(tenant, signal.SIGCONT)
        until(lambda: health.sweep().failures == 0)
        assert {fleet.fresh(tenant).health for tenant in tenants} == {Health.OK}
        assert reconcile.sweep() == 0
    finally:
        proxy.close()


def test_resources_of_real_containers(fleet):
    tenant = fleet.deploy()
    resources.sweep()
    time.sleep(1.1)
    resources.sweep()
    row = ResourceSnapshot.objects.filter(tenant=tenant).order_by("-ts").first()
    assert row.mem_limit == 64 * 1_048_576
    assert 0 < row.mem_bytes < row.mem_limit and row.pids >= 1
    assert row.cpu_mpct is not None and row.net_in is not None and row.cpu_limit_pct == 100
