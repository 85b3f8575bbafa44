"""What happens to agents on a real engine: killed for memory, ended, hung, without an image, stopped by hand; and an
engine that is gone. Turns of the sweep follow each other at once here, so that two minutes are four turns."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from audit.models import AuditEntry
from monitoring import probing, strikes
from monitoring.collectors import health, resources
from monitoring.models import HealthState, ResourceSnapshot
from tenants import reconcile, runtimes, services
from tenants.models import Node, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes import runtime_for, shim_tree
from tenants.states import Health, Reason, RunKind, RunStatus, Status
from tests import slot
from tests.factories import NodeFactory, PlanFactory
from tests.tenants.runtimes.conftest import emptied, installation  # noqa: F401 - fixtures
from tests.tenants.runtimes.contract import until
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

pytestmark = [pytest.mark.docker, pytest.mark.slow]
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

    def deploy(self, name="Acme"):
        created = services.create_tenant(actor=OPERATOR, name=name, plan="pro", runtime="docker", deploy_now=True)
        self.drive()
        tenant = self.fresh(created.tenant)
        assert (tenant.status, tenant.health, tenant.routed) == (Status.RUNNING, Health.OK, True), tenant.detail
        return tenant

    def misbehave(self, tenant, **faults):
        """From its next life on, which begins now. It was deployed while it was well: no deploy has to be quicker than
        the fault, however busy the machine is."""
        tenant.config.extra_config = {"faults": faults}
        tenant.config.save()
        mounts = {mount["Destination"]: mount["Source"] for mount in self.container(tenant)["Mounts"]}
        (file,) = Path(mounts["/config"]).glob("*.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "faults": faults}))
        self.signal(tenant, signal.SIGKILL)

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
    return Counter(AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).values_list("action", flat=True))


def is_given_up(tenant, reason):
    """Restarted once by the sweep, for this reason, and then left to a person: not running, not routed, audited."""
    told = actions(tenant)
    restart = tenant.runs.get(kind=RunKind.RESTART)
    assert restart.actor == "system" and restart.params["cause"].startswith(f"{reason}: ")
    assert told["tenant.restart"] == 1
    # By the sweep, or at once by the restart itself when that saw it fail.
    assert told["tenant.failed"] == (1 if restart.status == RunStatus.SUCCEEDED else 0)
    assert (tenant.status, tenant.reason, tenant.routed) == (Status.ERROR, reason, False)
    health.sweep()
    assert reconcile.sweep() == 0 and not any(run.is_active for run in tenant.runs.all())


@pytest.fixture
def fleet(transactional_db, vault_key, settings, tmp_path, monkeypatch, emptied):  # noqa: F811
    tmp_path.chmod(0o711)
    settings.HOME, settings.ROUTER = tmp_path, "direct"
    monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.5)
    runtimes._driver.cache_clear()
    NodeFactory(name="engine", runtime="docker", port_first=slot.CONTAINERS[0], port_last=slot.CONTAINERS[1])
    PlanFactory(memory_limit_mb=64)
    return Fleet(emptied)


def test_r16_one_that_is_killed_for_its_memory_again_and_again(fleet, monkeypatch):
    monkeypatch.setattr(strikes, "PAUSES", (0,))
    tenant = fleet.deploy()
    fleet.misbehave(tenant, leak_mb_per_s=40)
    tenant = fleet.sweep_until(tenant, Status.ERROR)
    assert "ran out of memory (64 MB)" in tenant.detail
    is_given_up(tenant, Reason.OOM_KILLED)


def test_r16_one_that_ends_again_and_again(fleet, monkeypatch):
    monkeypatch.setattr(strikes, "PAUSES", (0,))
    tenant = fleet.deploy()
    fleet.misbehave(tenant, crash_after_s=1)
    tenant = fleet.sweep_until(tenant, Status.ERROR)
    assert re.search(r"(ended|exited) \d+ times", tenant.detail)  # with its exit code, unless it is just up again
    is_given_up(tenant, Reason.CRASH_LOOP)


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
    told = actions(tenant)
    assert (told["tenant.restart"], told["tenant.failed"]) == (1, 1)
    assert (fleet.fresh(well).health, well.runs.count()) == (Health.OK, 1)
    fleet.signal(tenant, signal.SIGCONT)
    monkeypatch.setattr(strikes, "PAUSES", (0, 0))
    tenant = fleet.sweep_until(tenant, Status.RUNNING)
    assert (tenant.health, tenant.routed) == (Health.OK, True)
    told = actions(tenant)
    assert (told["tenant.drift"], told["tenant.repair"], told["tenant.restart"]) == (1, 1, 1)


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
    assert (tenant.status, tenant.health, tenant.reason, tenant.routed) == (Status.RUNNING, Health.OK, "", True)
    told = actions(tenant)
    assert (told["tenant.drift"], told["tenant.repair"], told["tenant.failed"]) == (1, 1, 0)
    assert reconcile.sweep() == 0, "once is enough"


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
    assert (tenant.status, tenant.reason, tenant.routed) == (Status.ERROR, Reason.IMAGE_MISSING, False)
    told = actions(tenant)
    assert (told["tenant.drift"], told["tenant.repair"], told["tenant.restart"]) == (1, 1, 0)
    assert AuditEntry.objects.filter(action="run.finish", tenant_id=str(tenant.public_id)).count() == 2


class TwoMinutes:
    """Turns of the sweeps that come every 30 s, with the clock going on by as much in between."""

    def __init__(self):
        self.now = clock.now()

    def go(self, count, *, failures=2):
        for number in range(count):
            self.now += timedelta(seconds=30)
            with clock.use(lambda: self.now):
                assert health.sweep().failures == failures
                assert reconcile.sweep() == 0, "what can't be seen is no drift"
                if number % 2 == 0:
                    # From the control groups, which are there without the engine; a frozen agent still has one.
                    assert resources.sweep().failures == 0


def states(fleet, tenants):
    """Health and strikes of tenants that are running, by the row, with nothing done to them but their deploy."""
    fresh = [fleet.fresh(tenant) for tenant in tenants]
    assert [(t.status, t.routed, t.runs.count()) for t in fresh] == [(Status.RUNNING, True, 1)] * len(fresh)
    strikes = dict(HealthState.objects.values_list("tenant_id", "strikes"))
    return [(t.health, strikes.get(t.pk, 0)) for t in fresh]


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
        turns = TwoMinutes()
        turns.go(2)  # two strikes before it is gone
        assert states(fleet, tenants) == [(Health.FAILING, 2)] * 2 + [(Health.OK, 0)]
        proxy.cut(mode)
        turns.go(5)
        assert states(fleet, tenants) == [(Health.UNKNOWN, 0)] * 2 + [(Health.OK, 0)]
        proxy.mode = "on"
        turns.go(2)  # and two when it is back are not four
        assert states(fleet, tenants) == [(Health.FAILING, 2)] * 2 + [(Health.OK, 0)]
        for tenant in tenants[:2]:
            fleet.signal(tenant, signal.SIGCONT)
        until(lambda: health.sweep().failures == 0)
        turns.go(1, failures=0)
        assert states(fleet, tenants) == [(Health.OK, 0)] * 3
        told = sum(map(actions, tenants), Counter())
        assert not {"tenant.restart", "tenant.failed", "tenant.drift", "tenant.repair"} & set(told)
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
