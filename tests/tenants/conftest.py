"""A small world in memory: a fake engine that really answers health checks, a fake router, a real database."""

from __future__ import annotations

import pytest

from tenants import services
from tenants.models import Node, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tests import fakes, slot
from tests.factories import NodeFactory, PlanFactory
from zcplatform.lib.actors import OPERATOR


class World:
    """``runtime`` names one of the classes in tests.fakes; ``engine`` is what its drivers share."""

    def __init__(self, settings, monkeypatch):
        self.settings, self.router = settings, fakes.FakeRouter()
        monkeypatch.setattr("tenants.routes.router", lambda: self.router)
        monkeypatch.setattr("tenants.cli.router", lambda: self.router)
        monkeypatch.setattr("tenants.provisioning.steps.POLL_S", 0.2)
        monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
        self.engine = fakes.ENGINES["world"]
        self.engine.clear()
        self.use("ServingRuntime")

    def use(self, name):
        """Exchange the engine's behaviour, keeping what runs in it."""
        from tenants import runtimes

        self.settings.RUNTIMES = {**self.settings.RUNTIMES, "fake": f"tests.fakes.{name}"}
        runtimes._driver.cache_clear()

    def node(self) -> Node:
        return NodeFactory(
            name="fake", runtime="fake", endpoint="world", port_first=slot.IN_MEMORY[0], port_last=slot.IN_MEMORY[1]
        )

    def tenant(self, name="Acme", *, deploy=False, plan="pro", **more) -> Tenant:
        PlanFactory(slug=plan)
        self.node()
        created = services.create_tenant(
            actor=OPERATOR, name=name, plan=plan, runtime="fake", deploy_now=deploy, **more
        )
        if deploy:
            self.drive(created.run)
        return self.fresh(created.tenant)

    def drive(self, run, *, turns=30):
        """Execute until it ends, without waiting for parked runs' time to come."""
        for _ in range(turns):
            type(run).objects.filter(pk=run.pk).update(next_attempt_at="2020-01-01T00:00:00Z")
            execute(run.pk, PROCEDURE)
            run.refresh_from_db()
            if not run.is_active:
                break
        return run

    @staticmethod
    def fresh(tenant) -> Tenant:
        return Tenant.objects.select_related("node", "plan", "config").get(pk=tenant.pk)

    def agents(self):
        return list(self.engine.agents.values())


@pytest.fixture
def world(transactional_db, vault_key, settings, monkeypatch, tmp_path):
    settings.HOME = tmp_path
    made = World(settings, monkeypatch)
    yield made
    made.engine.clear()
