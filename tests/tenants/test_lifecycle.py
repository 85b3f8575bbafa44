"""A tenant's life through the services, on an engine and a router in memory and a real database."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection

from audit.models import AuditEntry
from tenants import operations, reconcile, services
from tenants.models import Event, QuarantinedPort, Run, StepRecord, Tenant, TenantSecret
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.base import AgentState
from tenants.states import Desired, Health, HoldKind, Reason, RunKind, RunStatus, Status
from tests.commands import manage
from tests.factories import ChannelFactory, MemberFactory, PlanFactory, UserFactory
from tests.fakes import NeverHealthy, ServingRuntime
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound, RunFailed

STEPS = [
    "reserve_slot",
    "prepare_folders",
    "issue_tokens",
    "render_config",
    "ensure_image",
    "ensure_network",
    "retire_stale",
    "create",
    "start",
    "await_health",
    "publish_route",
    "mark_running",
]


def actions(tenant):
    return list(
        AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).order_by("id").values_list("action", flat=True)
    )


def test_deploy_brings_a_tenant_up_in_the_order_that_is_promised(world):
    tenant = world.tenant(deploy=True)
    run = tenant.runs.get()
    assert list(run.steps.values_list("name", flat=True)) == STEPS
    assert (tenant.status, tenant.health, tenant.routed) == (Status.RUNNING, Health.OK, True)
    agent = world.agents()[0]
    assert (agent.state, agent.spec.port, agent.spec.uid) == (AgentState.RUNNING, tenant.port, tenant.uid)
    assert list(world.router.routes) == [str(tenant.public_id)]
    assert (tenant.folder / "config" / "demo.json").stat().st_mode & 0o777 == 0o400
    assert {"tenant.create", "secret.write", "secret.read", "run.start", "run.finish"} <= set(actions(tenant))
    types = list(Event.objects.filter(tenant=tenant).order_by("id").values_list("type", flat=True))
    assert types[0] == "tenant.created"
    assert "run.succeeded" in types


def test_no_step_result_holds_a_secret(world):
    tenant = world.tenant(deploy=True)
    tie = TenantSecret.objects.get(tenant=tenant, field="agent_token")
    from vault.services import reveal

    token = reveal(tie.secret, actor=OPERATOR, why="test").reveal()
    stored = str(list(tenant.runs.get().steps.values_list("result", "error"))) + str(
        list(Event.objects.values_list("data"))
    )
    assert token not in stored
    assert token not in str(list(AuditEntry.objects.values_list("detail_json")))
    assert token not in str([agent.spec for agent in world.agents()])


def test_deploying_again_is_the_same_run_while_one_is_active_and_adopts_the_agent_afterwards(world):
    tenant = world.tenant()
    first = services.deploy(actor=OPERATOR, tenant=tenant)
    assert services.deploy(actor=OPERATOR, tenant=tenant) == first
    world.drive(first)
    before = world.agents()[0].handle
    again = services.deploy(actor=OPERATOR, tenant=tenant)
    assert again != first
    world.drive(again)
    assert world.agents()[0].handle == before, "an equal agent is adopted, not replaced"
    assert world.fresh(tenant).status == Status.RUNNING


def test_r10_m10_a_hundred_parallel_deploys_make_one_run_and_one_agent(world):
    tenant, runs, failures = world.tenant(), [], []
    barrier = threading.Barrier(20)

    def click():
        barrier.wait()
        try:
            for _ in range(5):
                runs.append(services.deploy(actor=OPERATOR, tenant=tenant).pk)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(runs) == 100
    assert len(set(runs)) == 1
    world.drive(Run.objects.get())
    assert len(world.agents()) == 1


def test_m10_a_flood_of_deploys_waits_in_the_queue_and_all_arrive_each_exactly_once(world, settings):
    """Thirty tenants at once, a queue that hands each run out twice, and as many workers as the settings have."""
    tenants = [world.tenant(f"Flood {number}") for number in range(30)]
    runs = [services.deploy(actor=OPERATOR, tenant=tenant).pk for tenant in tenants]
    assert settings.Q_CLUSTER["workers"] == settings.RUN_WORKERS

    def work(run):
        try:
            while Run.objects.get(pk=run).is_active:
                Run.objects.filter(pk=run, status="parked").update(next_attempt_at="2020-01-01T00:00:00Z")
                execute(run, PROCEDURE)
                time.sleep(0.01)  # another worker has it
        finally:
            connection.close()

    with ThreadPoolExecutor(settings.RUN_WORKERS) as pool:
        list(pool.map(work, sorted(runs + runs)))  # so that two workers have the same one at once
    assert set(Tenant.objects.values_list("status", flat=True)) == {Status.RUNNING}
    assert Counter(Run.objects.values_list("status", flat=True)) == {"succeeded": 30}
    begun_again = StepRecord.objects.exclude(name="await_health").exclude(attempts=1)  # which waits by parking
    assert not begun_again.exists(), "nobody takes a run from a worker that has it"
    assert len(world.agents()) == 30
    assert len({tenant.port for tenant in Tenant.objects.all()}) == 30


def test_stop_and_start(world):
    tenant = world.tenant(deploy=True)
    port = tenant.port
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.routed, world.router.routes) == (Status.STOPPED, False, {})
    assert world.agents()[0].state == AgentState.EXITED
    world.drive(services.start(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.port, tenant.routed) == (Status.RUNNING, port, True)


def test_restart_stops_before_it_starts_and_keeps_the_agent(world):
    tenant = world.tenant(deploy=True)
    before = world.agents()[0].handle
    world.engine.calls.clear()
    world.drive(services.restart(actor=OPERATOR, tenant=tenant))
    verbs = [verb for verb, _ in world.engine.calls if verb in ("stop", "start")]
    assert verbs == ["stop", "start"]
    assert world.agents()[0].handle == before
    assert world.fresh(tenant).status == Status.RUNNING


def test_restart_of_a_stopped_tenant_is_refused(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    with pytest.raises(Conflict) as refused:
        services.restart(actor=OPERATOR, tenant=tenant)
    assert refused.value.type == "wrong_state"


def test_holds_are_set_and_lifted_one_by_one(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.suspend(actor=OPERATOR, tenant=tenant, hold=HoldKind.BILLING, note="unpaid"))
    world.drive(services.suspend(actor=OPERATOR, tenant=tenant, hold=HoldKind.OPERATOR))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.desired, tenant.resume_to) == (Status.SUSPENDED, Desired.SUSPENDED, Desired.RUNNING)
    assert world.router.routes == {}
    world.drive(services.reactivate(actor=OPERATOR, tenant=tenant, hold=HoldKind.BILLING))
    assert world.fresh(tenant).status == Status.SUSPENDED, "the other hold is left"
    with pytest.raises(Conflict) as refused:
        services.start(actor=OPERATOR, tenant=tenant)
    assert refused.value.type == "held"
    world.drive(services.reactivate(actor=OPERATOR, tenant=tenant, hold=HoldKind.OPERATOR))
    assert world.fresh(tenant).status == Status.RUNNING
    with pytest.raises(Conflict) as refused:
        services.reactivate(actor=OPERATOR, tenant=tenant, hold=HoldKind.OPERATOR)
    assert refused.value.type == "not_held"


def test_a_tenant_that_was_stopped_stays_stopped_when_its_hold_is_lifted(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    world.drive(services.suspend(actor=OPERATOR, tenant=tenant))
    world.drive(services.reactivate(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.desired) == (Status.STOPPED, Desired.STOPPED)


def test_resize_replaces_the_agent_with_the_new_limits(world):
    PlanFactory(slug="big", name="Big", memory_limit_mb=4096, cpu_limit=2)
    tenant = world.tenant(deploy=True)
    before = world.agents()[0]
    world.drive(services.resize(actor=OPERATOR, tenant=tenant, plan="big"))
    after = world.agents()[0]
    assert (after.spec.memory_mb, after.spec.cpus) == (4096, 2.0)
    assert after.handle != before.handle
    assert (after.spec.port, after.spec.uid) == (before.spec.port, before.spec.uid)


def test_a_plan_below_what_the_agent_needs_is_refused(world):
    PlanFactory(slug="tiny", name="Tiny", memory_limit_mb=16)
    with pytest.raises(InvalidField) as refused:
        world.tenant(plan="tiny")
    assert refused.value.type == "plan_too_small"
    assert not Tenant.objects.exists()


def test_delete_leaves_nothing_behind(world):
    tenant = world.tenant(deploy=True)
    folder, trash, port = tenant.folder, tenant.trash, tenant.port
    world.drive(services.delete(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.slot, tenant.port, tenant.uid) == (Status.DELETED, None, None, None)
    assert (world.agents(), world.router.routes) == ([], {})
    assert not folder.exists()
    assert trash.is_dir()
    assert not tenant.access_tokens.filter(revoked_at=None).exists()
    assert not Secret.objects.exists()
    assert actions(tenant)[-1] == "tenant.deleted"
    other = world.tenant("Acme", slug=tenant.slug, deploy=True)
    assert other.port == port, "slug and slot are free again"


def test_delete_with_purge_keeps_no_folder(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.delete(actor=OPERATOR, tenant=tenant, purge=True))
    assert not tenant.trash.exists()


def test_a_draft_can_be_deleted(world):
    tenant = world.tenant()
    world.drive(services.delete(actor=OPERATOR, tenant=tenant))
    assert world.fresh(tenant).status == Status.DELETED


def test_r11_delete_during_a_deploy_takes_its_place_and_leaves_nothing(world):
    tenant = world.tenant()
    deploy = services.deploy(actor=OPERATOR, tenant=tenant)
    world.use("NeverHealthy")
    from tenants.provisioning.plans import PROCEDURE
    from tenants.provisioning.runner import execute

    execute(deploy.pk, PROCEDURE)
    deploy.refresh_from_db()
    assert deploy.status == RunStatus.PARKED
    deletion = services.delete(actor=OPERATOR, tenant=tenant)
    assert services.delete(actor=OPERATOR, tenant=tenant) == deletion
    world.drive(deletion)
    deploy.refresh_from_db()
    assert deploy.status == RunStatus.CANCELLED
    assert world.fresh(tenant).status == Status.DELETED
    assert world.agents() == []


def test_r12_nothing_else_may_be_asked_of_a_tenant_that_is_being_deleted(world):
    tenant = world.tenant(deploy=True)
    services.delete(actor=OPERATOR, tenant=tenant)
    for ask in (services.deploy, services.start, services.stop, services.restart, services.suspend):
        with pytest.raises(Conflict) as refused:
            ask(actor=OPERATOR, tenant=tenant)
        assert refused.value.type == "tenant_deleting"


def test_another_wish_while_a_run_is_active_is_refused_and_changes_nothing(world):
    tenant = world.tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    PlanFactory(slug="big", name="Big", memory_limit_mb=4096)
    with pytest.raises(Conflict) as refused:
        services.resize(actor=OPERATOR, tenant=tenant, plan="big")
    assert (refused.value.type, refused.value.details["run"]) == ("run_active", str(run.public_id))
    assert world.fresh(tenant).plan.slug == "pro"


def test_stop_ends_a_deploy_that_is_stuck(world):
    tenant = world.tenant()
    deploy = services.deploy(actor=OPERATOR, tenant=tenant)
    world.use("DownRuntime")
    world.drive(deploy, turns=3)
    world.use("ServingRuntime")
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert world.fresh(tenant).status == Status.STOPPED


def test_a_failed_deploy_says_why_removes_the_agent_and_converges_when_tried_again(world):
    world.use("BadRuntime")
    tenant = world.tenant(deploy=True)
    assert (tenant.status, tenant.reason) == (Status.ERROR, Reason.IMAGE_MISSING)
    assert (world.agents(), tenant.routed) == ([], False)
    assert tenant.slot is not None, "slot and folder stay, so that a retry converges"
    assert tenant.folder.is_dir()
    world.use("ServingRuntime")
    world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.reason, tenant.detail) == (Status.RUNNING, Reason.NONE, "")


def test_r4_an_engine_that_is_down_is_waited_for(world):
    world.use("DownRuntime")
    tenant = world.tenant()
    run = world.drive(services.deploy(actor=OPERATOR, tenant=tenant), turns=4)
    assert (run.status, world.fresh(tenant).status) == (RunStatus.PARKED, Status.DEPLOYING)
    world.use("ServingRuntime")
    world.drive(run)
    assert world.fresh(tenant).status == Status.RUNNING


def test_r13_a_router_that_is_down_is_waited_for_and_nothing_is_called_running(world, monkeypatch):
    from tests.fakes import DownRouter

    monkeypatch.setattr("tenants.routes.router", DownRouter)
    tenant = world.tenant()
    run = world.drive(services.deploy(actor=OPERATOR, tenant=tenant), turns=4)
    assert (run.status, world.fresh(tenant).status) == (RunStatus.PARKED, Status.DEPLOYING)
    assert world.fresh(tenant).reason == Reason.WAITING_FOR_ROUTER
    assert len(world.agents()) == 1, "the agent is kept"
    monkeypatch.setattr("tenants.routes.router", lambda: world.router)
    world.drive(run)
    assert world.fresh(tenant).status == Status.RUNNING


def test_a_lost_reply_is_not_done_twice(world):
    world.use("LostReplyRuntime")
    tenant = world.tenant(deploy=True)
    assert tenant.status == Status.RUNNING
    assert len(world.agents()) == 1


def test_r7_a_port_that_a_stranger_holds_is_quarantined_and_the_next_is_taken(world):
    import socket

    tenant = world.tenant()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", world.node().port_first))
        stranger.listen()
        world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.port) == (Status.RUNNING, world.node().port_first + 1)
    assert QuarantinedPort.objects.get().port == world.node().port_first
    assert len(world.agents()) == 1


@pytest.mark.root
def test_deploys_go_on_while_an_agent_squats_on_most_of_the_ports(world):
    from tests.tenants.test_allocation import squatter

    node = world.node()
    with squatter(node.uid_first, node.port_first, node.port_first + 59):
        tenants = [world.tenant(name, deploy=True) for name in ("First", "Second")]
    assert [(t.status, t.port) for t in tenants] == [(Status.RUNNING, node.port_first + 60 + n) for n in range(2)]
    assert not QuarantinedPort.objects.exists()


def test_a_node_without_a_free_slot_is_a_named_error_before_any_side_effect(world):
    node = world.node()
    node.port_last = node.port_first
    node.save()
    world.tenant("First", deploy=True)
    tenant = world.tenant("Second", deploy=True)
    assert (tenant.status, tenant.reason, tenant.slot) == (Status.ERROR, Reason.NO_CAPACITY, None)
    assert not tenant.folder.exists()


def test_a_change_that_fails_before_the_agent_is_touched_leaves_it_running_and_says_so(world, monkeypatch):
    from zcplatform.lib.errors import VaultError

    tenant = world.tenant(deploy=True)

    def sealed(*_args, **_more):
        raise VaultError("sealed")

    monkeypatch.setattr("tenants.secrets.vault.reveal_many", sealed)
    run = world.drive(services.start(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert run.reason == Reason.VAULT_UNAVAILABLE
    assert (tenant.status, tenant.reason, tenant.routed) == (Status.RUNNING, Reason.VAULT_UNAVAILABLE, True)
    assert world.agents()[0].state == AgentState.RUNNING


def test_what_was_replaced_in_vain_is_not_called_well(world):
    tenant = world.tenant(deploy=True)
    since = world.fresh(tenant).health_at
    world.use("BadRuntime")
    world.drive(services.restart(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.health) == (Status.ERROR, Health.UNKNOWN)
    assert tenant.health_at > since


def test_rotate_secrets_gives_a_new_bearer_and_revokes_the_customers_tokens(world):
    tenant = world.tenant(deploy=True)
    before = (tenant.folder / "config" / "demo.json").read_bytes()
    world.drive(services.rotate_secrets(actor=OPERATOR, tenant=tenant).run)
    assert (tenant.folder / "config" / "demo.json").read_bytes() != before
    assert list(tenant.access_tokens.filter(revoked_at=None).values_list("name", flat=True)) == ["rotated"]
    assert world.fresh(tenant).status == Status.RUNNING


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", set()),
        ("contributor", set()),
        ("manager", {"deploy", "start", "restart", "stop"}),
        ("owner", {"deploy", "start", "restart", "stop", "delete"}),
    ],
)
def test_what_each_role_may_ask_for(world, role, allowed):
    tenant = world.tenant(deploy=True)
    actor = MemberFactory(tenant=tenant, role=role).user.as_actor()
    for name in ("deploy", "start", "restart", "stop", "suspend", "delete"):
        if name in allowed:
            world.drive(getattr(services, name)(actor=actor, tenant=tenant))
            continue
        with pytest.raises(Forbidden):
            getattr(services, name)(actor=actor, tenant=tenant)
        assert AuditEntry.objects.order_by("-id").first().outcome == "denied"


def test_a_stranger_learns_nothing_and_the_attempt_is_recorded(world):
    tenant = world.tenant(deploy=True)
    with pytest.raises(NotFound) as refused:
        services.stop(actor=UserFactory().as_actor(), tenant=tenant)
    assert refused.value.message == NotFound().message
    assert tenant not in Tenant.objects.visible_to(UserFactory().as_actor())
    assert AuditEntry.objects.order_by("-id").first().action == "access.denied"


def test_only_a_super_admin_creates_tenants_unless_signup_is_open(world, settings):
    actor = UserFactory().as_actor()
    PlanFactory()
    world.node()
    with pytest.raises(Forbidden):
        services.create_tenant(actor=actor, name="Mine", plan="pro", runtime="fake")
    assert AuditEntry.objects.order_by("-id").first().outcome == "denied"
    settings.SELF_SERVICE_SIGNUP, settings.SIGNUP_RUNTIMES = True, ["fake"]
    with pytest.raises(Forbidden) as refused:
        services.create_tenant(actor=actor, name="Mine", plan="pro", runtime="fake")
    assert refused.value.type == "plan_not_offered"
    assert AuditEntry.objects.filter(outcome="denied").count() == 2
    assert not Tenant.objects.exists()
    settings.SIGNUP_PLANS = ["free", "pro"]
    tenant = services.create_tenant(actor=actor, name="Mine", plan="pro", runtime="fake").tenant
    assert tenant.members.get().role == "owner"
    assert list(Tenant.objects.visible_to(actor)) == [tenant]


def test_slugs_are_made_from_names_and_numbered_on_collision(world):
    names = [world.tenant("Müller & Söhne").slug, world.tenant("Muller Sohne").slug, world.tenant("Admin").slug]
    assert names == ["muller-sohne", "muller-sohne-2", "admin-2"]
    with pytest.raises(Conflict) as refused:
        world.tenant("Other", slug="muller-sohne")
    assert refused.value.type == "slug_taken"


def test_reconcile_finds_nothing_to_do_twice(world):
    world.tenant("One", deploy=True)
    stopped = world.tenant("Two", deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=stopped))
    counts = [model.objects.count() for model in (Run, AuditEntry, Event)]
    assert reconcile.sweep() == 0
    assert reconcile.sweep() == 0
    assert [model.objects.count() for model in (Run, AuditEntry, Event)] == counts


def repair(world):
    found = [item for node in [world.node()] for item in reconcile.look(node)]
    runs = reconcile.act(world.node(), found)
    for run in runs:
        world.drive(run)
    reconcile.sync_routes()
    return [item.difference.what for item in found]


def test_r21_an_agent_removed_or_stopped_behind_our_back_is_put_back(world):
    tenant = world.tenant(deploy=True)
    world.engine.clear()
    assert repair(world) == ["agent_absent"]
    assert world.agents()[0].state == AgentState.RUNNING
    assert "tenant.drift" in actions(tenant)
    world.agents()[0].end()
    assert repair(world) == ["agent_down"]
    assert world.fresh(tenant).status == Status.RUNNING
    assert repair(world) == []


def test_r21_a_folder_or_a_configuration_changed_by_hand_is_put_back(world):
    import shutil

    tenant = world.tenant(deploy=True)
    file = tenant.folder / "config" / "demo.json"
    wanted = file.read_bytes()
    file.chmod(0o600)
    file.write_text("{}")
    assert repair(world) == ["config_differs"]
    assert file.read_bytes() == wanted
    shutil.rmtree(tenant.folder)
    assert repair(world) == ["folder_absent"]
    assert file.read_bytes() == wanted


def test_r14_wiped_routes_are_put_back_and_unknown_ones_go(world):
    tenant = world.tenant(deploy=True)
    world.router.routes.clear()
    assert [d.what for d in reconcile.sync_routes()] == ["route_missing"]
    assert list(world.router.routes) == [str(tenant.public_id)]


def test_a_stopped_tenant_that_runs_is_stopped(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    agent = world.agents()[0]
    agent.state = AgentState.RUNNING
    assert repair(world) == ["runs_unwanted"]
    assert agent.state == AgentState.EXITED


def test_f12_an_agent_of_no_tenant_of_ours_is_stopped_and_reported_and_stays(world):
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).delete()
    assert repair(world) == ["agent_unknown"]
    assert [agent.state for agent in world.agents()] == [AgentState.EXITED]
    assert repair(world) == ["agent_unknown"]
    assert len(world.agents()) == 1


def test_reconcile_leaves_a_tenant_in_error_to_people(world):
    world.use("BadRuntime")
    world.tenant(deploy=True)
    assert repair(world) == []


def test_reconcile_leaves_tenants_with_an_active_run_to_that_run(world):
    tenant = world.tenant(deploy=True)
    services.restart(actor=OPERATOR, tenant=tenant)
    world.engine.clear()
    assert repair(world) == []


def test_an_engine_that_is_down_marks_nobody(world):
    tenant = world.tenant(deploy=True)
    world.use("DownRuntime")
    reconcile.sweep()
    assert world.fresh(tenant).status == Status.RUNNING


def test_a_deletion_that_was_cut_short_is_finished(world):
    tenant = world.tenant(deploy=True)
    run = services.delete(actor=OPERATOR, tenant=tenant)
    Run.objects.filter(pk=run.pk).delete()
    assert repair(world) == ["deletion_unfinished"]
    assert world.fresh(tenant).status == Status.DELETED


def test_kinds_of_runs_are_all_known_to_the_plans():
    from tenants.provisioning.plans import _STEPS

    assert set(_STEPS) == set(RunKind)


def test_a_stale_agent_loses_its_route_before_it_is_stopped(world, monkeypatch):
    PlanFactory(slug="big", name="Big", memory_limit_mb=4096)
    tenant = world.tenant(deploy=True)
    seen = []
    stop = ServingRuntime.stop
    monkeypatch.setattr(ServingRuntime, "stop", lambda *a, **k: seen.append(dict(world.router.routes)) or stop(*a, **k))
    world.drive(services.resize(actor=OPERATOR, tenant=tenant, plan="big"))
    assert seen == [{}], "nothing leads to an agent that is going down"
    assert list(world.router.routes) == [str(tenant.public_id)]


def test_what_an_agent_printed_before_it_failed_is_kept_and_told_without_its_secrets(world, monkeypatch):
    """The last words of a failed deploy are shown to people; an agent may print its own token."""
    start = ServingRuntime.start

    def telling(runtime, handle):
        start(runtime, handle)
        agent = world.engine.agents[handle.name]
        config = json.loads((Path(agent.spec.folder) / "config" / "demo.json").read_text())
        agent.output.append(f"my token is {config['token']} and I crash")
        agent.restarts = 3

    monkeypatch.setattr(NeverHealthy, "start", telling)
    world.use("NeverHealthy")
    tenant = world.tenant(deploy=True)
    assert (tenant.status, tenant.reason) == (Status.ERROR, Reason.CRASH_LOOP)
    kept = (tenant.folder / "logs" / "last-failure.log").read_text()
    for text in (tenant.detail, kept, tenant.runs.get().error):
        assert "my token is *** and I crash" in text
    told = operations.read_logs(actor=OPERATOR, tenant=tenant)
    assert told.splitlines() == [operations.GONE, "started", "my token is *** and I crash"]
    assert "*** and I crash" in next(operations.follow_logs(actor=OPERATOR, tenant=tenant))
    assert "*** and I crash" in manage("logs", tenant.slug).out
    (tenant.folder / "logs" / "last-failure.log").write_text("started\nand cut o")
    last = operations.read_logs(actor=OPERATOR, tenant=tenant, tail=1)
    assert last.splitlines() == [operations.GONE, "and cut o"]


def test_a_repair_that_fails_is_not_called_running_and_leaves_no_route(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    world.engine.clear()

    def missing(*_args):
        raise RunFailed("The image is not there.", type=Reason.IMAGE_MISSING)

    monkeypatch.setattr(ServingRuntime, "ensure_image", missing)
    assert repair(world) == ["agent_absent"]
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.reason, tenant.routed) == (Status.ERROR, Reason.IMAGE_MISSING, False)
    assert world.router.routes == {}
    assert repair(world) == [], "a person decides what happens next"


def test_a_repair_leaves_nothing_reachable_before_it_is_healthy(world, monkeypatch):
    world.tenant(deploy=True)
    world.engine.clear()
    seen = []
    create = ServingRuntime.create
    monkeypatch.setattr(ServingRuntime, "create", lambda *a: seen.append(dict(world.router.routes)) or create(*a))
    repair(world)
    assert seen == [{}]


def test_a_failed_deploy_leaves_no_route(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    world.engine.clear()

    def broken(*_args):
        raise RunFailed("No.", type=Reason.BAD_CONFIG)

    monkeypatch.setattr(ServingRuntime, "create", broken)
    world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    tenant = world.fresh(tenant)
    assert (tenant.status, tenant.routed, world.router.routes) == (Status.ERROR, False, {})


def test_an_agent_that_a_run_has_just_made_is_not_taken_for_a_left_over(world):
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).update(handle={"runtime": "fake", "name": "x", "id": "older"})
    found = reconcile.look(world.node())
    assert {item.difference.what for item in found} == {"agent_superseded", "agent_absent"}
    Tenant.objects.filter(pk=tenant.pk).update(handle=tenant.handle)
    assert reconcile.act(world.node(), found) == []
    assert [agent.state for agent in world.agents()] == [AgentState.RUNNING]


def test_a_repair_does_not_override_what_somebody_asked_for_meanwhile(world):
    tenant = world.tenant(deploy=True)
    stale = world.fresh(tenant)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    with pytest.raises(Conflict) as refused:
        services.repair(tenant=stale, cause="agent_down")
    assert refused.value.type == "wrong_state"
    assert world.fresh(tenant).status == Status.STOPPED


def test_a_deletion_with_purge_that_is_finished_by_reconcile_still_purges(world):
    tenant = world.tenant(deploy=True)
    run = services.delete(actor=OPERATOR, tenant=tenant, purge=True)
    long_ago = "2020-01-01T00:00:00Z"
    Run.objects.filter(pk=run.pk).update(status=RunStatus.FAILED, finished_at=long_ago)
    assert repair(world) == ["deletion_unfinished"]
    assert world.fresh(tenant).status == Status.DELETED
    assert not tenant.trash.exists()


def test_a_plan_that_was_made_too_small_is_named_at_the_next_start(world):
    tenant = world.tenant(deploy=True)
    tenant.plan.memory_limit_mb = 16
    tenant.plan.save()
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    world.drive(services.start(actor=OPERATOR, tenant=tenant))
    assert world.fresh(tenant).reason == Reason.PLAN_TOO_SMALL


def test_a_change_is_told_to_the_outbox_whether_or_not_the_tenant_runs(world):
    PlanFactory(slug="big", name="Big", memory_limit_mb=4096)
    tenant = world.tenant(deploy=True)
    world.drive(services.resize(actor=OPERATOR, tenant=tenant, plan="big"))
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert services.resize(actor=OPERATOR, tenant=tenant, plan="pro") is None
    assert Event.objects.filter(tenant=tenant, type="tenant.resize").count() == 2


def test_f12_an_agent_of_a_draft_is_stopped_and_reported_and_its_first_deploy_takes_it_up(world):
    """As after a restore of a backup that is older than the deploy: the row knows of no agent, and one runs."""
    tenant = world.tenant(deploy=True)
    Run.objects.filter(tenant=tenant).delete()
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.DRAFT, desired=Desired.STOPPED, handle=None, routed=False)
    assert repair(world) == ["agent_unknown"]
    assert [agent.state for agent in world.agents()] == [AgentState.EXITED]
    assert repair(world) == ["agent_unknown"]
    [entry] = AuditEntry.objects.filter(action="platform.reconcile")
    assert entry.tenant_id == str(tenant.public_id)
    run = services.deploy(actor=OPERATOR, tenant=world.fresh(tenant))
    assert repair(world) == [], "what has an active run is left to it"
    world.drive(run)
    assert [agent.state for agent in world.agents()] == [AgentState.RUNNING]
    assert repair(world) == []


def test_a_deploy_that_was_asked_for_after_the_look_keeps_its_agent(world):
    tenant = world.tenant(deploy=True)
    Run.objects.filter(tenant=tenant).delete()
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.DRAFT, desired=Desired.STOPPED, handle=None, routed=False)
    found = reconcile.look(world.node())
    world.drive(services.deploy(actor=OPERATOR, tenant=world.fresh(tenant)))
    reconcile.act(world.node(), found)
    assert [agent.state for agent in world.agents()] == [AgentState.RUNNING]


def test_what_is_only_to_be_reported_is_left_as_it_is(world):
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).delete()
    assert repair(world) == ["agent_unknown"]
    rows = AuditEntry.objects.count()
    world.engine.calls.clear()
    assert repair(world) == ["agent_unknown"]
    assert "stop" not in [verb for verb, _ in world.engine.calls]
    assert AuditEntry.objects.count() == rows


def test_r18_only_one_sweep_at_a_time_looks_at_a_node(world):
    world.tenant(deploy=True)
    node = world.node()
    type(node).objects.filter(pk=node.pk).update(lease_until="2100-01-01T00:00:00Z", lease_owner="another")
    world.engine.calls.clear()
    reconcile.sweep()
    assert "list" not in [verb for verb, _ in world.engine.calls]


@pytest.mark.parametrize(("limit", "rows"), [("max_channels", ChannelFactory), ("max_members", MemberFactory)])
def test_a_plan_that_allows_less_than_the_tenant_has_is_refused(world, limit, rows):
    tenant = world.tenant()
    for _ in range(3):
        rows(tenant=tenant)
    PlanFactory(slug="two", name="Two", **{limit: 2})
    with pytest.raises(Forbidden) as refused:
        services.resize(actor=OPERATOR, tenant=tenant, plan="two")
    assert (refused.value.type, refused.value.details["limit"]) == ("plan_limit", 2)
    assert world.fresh(tenant).plan.slug == "pro"
    PlanFactory(slug="three", name="Three", **{limit: 3})
    services.resize(actor=OPERATOR, tenant=tenant, plan="three")
    assert world.fresh(tenant).plan.slug == "three"


def test_what_one_tenant_puts_into_its_folder_keeps_no_other_from_being_repaired(world):
    """A name of arbitrary bytes, and a configuration folder that has become something else."""
    bad, good = world.tenant("Bad", deploy=True), world.tenant("Good", deploy=True)
    config = bad.folder / "config"
    os.close(os.open(os.path.join(os.fsencode(config), b"\xff\xfe"), os.O_CREAT, 0o600))
    next(agent for agent in world.agents() if agent.spec.tenant == str(good.public_id)).end()
    assert sorted(repair(world)) == ["agent_down", "config_differs"]
    shutil.rmtree(config)
    config.symlink_to("/etc")
    world.router.routes.clear()
    next(agent for agent in world.agents() if agent.spec.tenant == str(good.public_id)).end()
    assert reconcile.sweep() >= 2
    assert Run.objects.filter(tenant=good, status=RunStatus.QUEUED).exists()
    assert world.router.routes, "the routes were settled too"


def test_a_node_that_can_not_be_reconciled_keeps_neither_the_others_nor_the_routes_waiting(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    world.router.routes.clear()

    def broken(*_args, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr(reconcile, "look", broken)
    reconcile.sweep()
    assert list(world.router.routes) == [str(tenant.public_id)]
