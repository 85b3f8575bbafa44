"""A hundred deploys of one tenant at once, executed by several workers, on the real engine."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from tenants import runtimes, services
from tenants.models import Run
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import LABEL_INSTANCE, AgentState
from tenants.states import RunStatus
from tests import slot
from tests.factories import NodeFactory, PlanFactory
from tests.tenants.runtimes.conftest import emptied, installation  # noqa: F401 - fixtures
from zcplatform.lib.actors import OPERATOR

pytestmark = pytest.mark.docker
CLICKS, WORKERS = 100, 6


def at_once(count, act):
    """Run ``act`` in so many threads, started together; returns what failed."""
    barrier, failures = threading.Barrier(count), []

    def work(number):
        barrier.wait()
        try:
            act(number)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_a_hundred_parallel_deploys_of_one_tenant_make_one_container(
    transactional_db,
    vault_key,
    settings,
    tmp_path,
    monkeypatch,
    emptied,  # noqa: F811
):
    tmp_path.chmod(0o711)
    settings.HOME, settings.ROUTER = tmp_path, "direct"
    monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
    runtimes._driver.cache_clear()
    NodeFactory(name="engine", runtime="docker", port_first=slot.CONTAINERS[0], port_last=slot.CONTAINERS[1])
    PlanFactory()
    tenant = services.create_tenant(actor=OPERATOR, name="Acme", plan="pro", runtime="docker").tenant
    runs: list[int] = []
    assert at_once(CLICKS, lambda _n: runs.append(services.deploy(actor=OPERATOR, tenant=tenant).pk)) == []
    assert (len(runs), len(set(runs))) == (CLICKS, 1)

    def work(_number):
        while Run.objects.get(pk=runs[0]).is_active:
            execute(runs[0], PROCEDURE)

    assert at_once(WORKERS, work) == []
    assert Run.objects.get().status == RunStatus.SUCCEEDED
    label = f"{LABEL_INSTANCE}={settings.INSTANCE}"
    assert len(emptied.engine.call("containers", all=True, filters={"label": label})) == 1
    assert [seen.state for seen in emptied.list()] == [AgentState.RUNNING]
