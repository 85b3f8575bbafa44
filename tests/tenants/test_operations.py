"""Logs and exec: who may, what is taken, what is kept of it."""

from __future__ import annotations

import inspect
import json

import pytest

from audit.models import AuditEntry
from tenants import operations, services
from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.runtimes.base import ExecResult, LogPart
from tenants.states import Desired, Status
from tests import fakes
from tests.factories import MemberFactory, UserFactory
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound


@pytest.fixture
def ran(monkeypatch):
    """The argv of every command that reached the engine."""
    seen = []

    def run(_runtime, _handle, argv, **_more):
        seen.append(argv)
        return ExecResult(exit_code=0, output="canary of the output")

    monkeypatch.setattr(fakes.ServingRuntime, "exec", run)
    return seen


def execute(tenant, command, actor=OPERATOR):
    return operations.execute(actor=actor, tenant=tenant, command=command)


@pytest.mark.parametrize(
    "state", [{"status": Status.STOPPED}, {"status": Status.ERROR}, {"desired": Desired.DELETED}, {"handle": None}]
)
def test_g4_nothing_runs_beside_an_agent_that_is_not_there_or_going(world, ran, state):
    tenant = world.tenant(deploy=True)
    Tenant.objects.filter(pk=tenant.pk).update(**state)
    with pytest.raises(Conflict) as refused:
        execute(tenant, ["id"])  # with a row that was read before
    assert refused.value.type == "not_running"
    assert ran == []


def test_g4_the_tenant_of_others_is_not_found(world, ran):
    tenant = world.tenant(deploy=True)
    for command in (["id"], "'unclosed", []):
        with pytest.raises(NotFound):
            execute(tenant, command, UserFactory().as_actor())
    assert ran == []


def test_g1_what_a_shell_would_understand_is_passed_as_it_is(world, ran):
    tenant = world.tenant(deploy=True)
    argv = ["echo", "$(id)", ";", "a\nb", "`id`", "|", ">x", "*"]
    execute(tenant, argv)
    execute(tenant, "echo '$(id)' ; id")
    assert ran == [argv, ["echo", "$(id)", ";", "id"]]


@pytest.mark.parametrize("command", [[], "", "'unclosed", ["a\0b"], ["id", 7], ["x" * 4_097], ["id"] * 65, ["a\nb"]])
def test_g1_what_is_no_command_is_refused(world, ran, command):
    with pytest.raises(InvalidField):
        execute(world.tenant(deploy=True), command)
    assert ran == []


def test_g1_a_manager_runs_diagnostic_commands_alone_and_the_rest_is_recorded(world, ran):
    tenant = world.tenant(deploy=True)
    manager = MemberFactory(tenant=tenant, role="manager").user.as_actor()
    diagnostic = list(agent_kind("demo").diagnostic_commands[0])
    execute(tenant, diagnostic, manager)
    with pytest.raises(Forbidden):
        execute(tenant, ["sh", "-c", "id"], manager)
    assert ran == [diagnostic]
    row = AuditEntry.objects.order_by("-id").first()
    assert (row.action, row.outcome, json.loads(row.detail_json)["ability"]) == ("access.denied", "denied", "exec.any")


def test_g2_nothing_but_argv_and_a_time_limit_can_be_asked_for(world, ran):
    assert set(inspect.signature(operations.execute).parameters) == {"actor", "tenant", "command", "timeout_s"}
    tenant = world.tenant(deploy=True)
    for name in ("user", "env", "workdir", "tty", "privileged"):
        with pytest.raises(TypeError, match=name):
            operations.execute(actor=OPERATOR, tenant=tenant, command=["id"], **{name: "root"})
    assert ran == []


def test_g6_the_audit_has_the_argv_without_secrets_and_not_the_output(world, ran):
    tenant = world.tenant(deploy=True)
    config = json.loads((tenant.folder / "config" / "demo.json").read_text())
    result = execute(tenant, ["grep", config["token"], "/etc"])
    assert result.output == "canary of the output"
    row = AuditEntry.objects.get(action="tenant.exec")
    assert json.loads(row.detail_json)["argv"] == ["grep", "***", "/etc"]
    assert "canary" not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(("asked", "given"), [(-1, 1), (0, 1), (7, 7), (1_000, 1_000), (1_001, 1_000), (10**9, 1_000)])
def test_g11_the_tail_of_the_logs_is_one_to_a_thousand_lines(world, monkeypatch, asked, given):
    tenant, tails = world.tenant(deploy=True), []
    monkeypatch.setattr(fakes.ServingRuntime, "logs", lambda _self, _handle, *, tail, times: tails.append(tail) or "")
    operations.read_logs(actor=OPERATOR, tenant=tenant, tail=asked)
    assert tails == [given]


def test_an_exec_on_a_stopped_agent_is_a_conflict_after_a_real_stop(world, ran):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    with pytest.raises(Conflict):
        execute(tenant, ["id"])
    assert ran == []


def test_who_follows_is_told_what_was_left_out(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    told = iter([LogPart("", "1"), LogPart("new\n", "2", True), LogPart("newer\n", "3")])
    monkeypatch.setattr(fakes.FakeRuntime, "logs_after", lambda *_, times: next(told))
    following = operations.follow_logs(actor=OPERATOR, tenant=tenant)
    next(following)
    assert [next(following), next(following)] == [f"{operations.LEFT_OUT}new\n", "newer\n"]
