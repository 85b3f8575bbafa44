"""The commands that act on tenants, run as an operator runs them: outcome, ``--json``, exit code, the words."""

from __future__ import annotations

import io
import os
import signal
import threading
import uuid

import pytest
from django.core.management import call_command, load_command_class
from django.core.management.base import CommandError
from django.db import OperationalError

from audit.models import AuditEntry
from tenants import cli, services
from tenants.models import AccessToken, Run, Tenant
from tenants.runtimes.base import AgentState, ExecResult
from tenants.states import Desired, RunStatus, Status
from tests import fakes
from tests.commands import manage
from tests.factories import PlanFactory
from tests.zcplatform.test_terminal import EVIL, is_harmless
from zcplatform.lib.actors import OPERATOR


class Terminal(io.StringIO):
    """Somebody who can answer."""

    def isatty(self):
        return True


@pytest.fixture
def typed(monkeypatch):
    """Answers typed at a terminal."""
    return lambda text: monkeypatch.setattr("sys.stdin", Terminal(text))


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("acme\n"))


def provision(world, *argv):
    PlanFactory(slug="pro")
    world.node()
    return manage("provision", "Acme", "--plan", "pro", "--runtime", "fake", *argv)


# --- provision ---------------------------------------------------------------------------------------------


def test_provision_tells_every_step_the_address_and_once_the_token(world):
    done = provision(world)
    assert done.code == 0
    tenant = Tenant.objects.get(slug="acme")
    token = next(line.rpartition(" ")[2] for line in done.out.splitlines() if "shown once" in line)
    assert done.out.count(token) == 1
    assert tenant.access_tokens.get().prefix == token[: len(tenant.access_tokens.get().prefix)]
    steps = [line.split()[1] for line in done.out.splitlines() if line.startswith("  ✓")]
    assert steps == list(tenant.runs.get().steps.values_list("name", flat=True))
    assert done.out.splitlines()[-1] == "acme: running  http://acme.fake.localhost"


def test_provision_as_json_is_one_object(world):
    done = provision(world, "--json")
    told = done.json
    assert done.code == 0
    assert (told["tenant"], told["status"], told["url"]) == ("acme", "running", "http://acme.fake.localhost")
    assert told["run"]["status"] == "succeeded"
    assert {step["status"] for step in told["run"]["steps"]} == {"done"}
    assert len(told["access_token"]) > 40


def test_provision_without_a_deploy_makes_a_draft(world):
    done = provision(world, "--no-deploy", "--json")
    assert done.code == 0
    assert (done.json["status"], done.json["run"], done.json["url"]) == ("draft", None, "")
    assert not Run.objects.exists()


def test_provision_takes_channels_and_keys_from_the_environment_alone(world, monkeypatch):
    monkeypatch.setenv("ACME_BOT", "123456:made-up-bot-token")
    monkeypatch.setenv("ACME_KEY", "made-up-provider-key")
    channel = ("--channel", "telegram:bot_token=@ACME_BOT,allow_from=12;34")
    provider = ("--provider", "openai", "--model", "gpt-4o", "--provider-key-env", "ACME_KEY")
    done = provision(world, "--no-deploy", *channel, *provider)
    assert done.code == 0, done.err
    tenant = Tenant.objects.get()
    channel = tenant.channels.get()
    assert (channel.channel_type, channel.config) == ("telegram", {"allow_from": ["12", "34"]})
    assert tenant.config.provider_name == "openai"
    assert set(tenant.secrets.values_list("field", flat=True)) == {"bot_token", "provider_key"}
    assert "made-up" not in done.out + done.err + str(list(AuditEntry.objects.values_list("detail_json")))


def test_provision_refuses_a_channels_field_that_stands_there_twice(world):
    """The last one would win and the others be lost without a word."""
    done = provision(world, "--channel", "telegram:bot_token=x,allow_from=12,allow_from=34")
    assert done.code == 2
    assert "“allow_from” stands there twice" in done.err
    assert not Tenant.objects.exists()


@pytest.mark.parametrize(
    "argv",
    [("--provider", "openai", "--provider-key-env", "NOT_SET"), ("--channel", "telegram:bot_token=@NOT_SET")],
)
def test_provision_names_the_variable_that_is_not_there(world, argv):
    done = provision(world, *argv)
    assert (done.code, done.err) == (2, "The environment has no NOT_SET.")
    assert not Tenant.objects.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("server=irc.example.test,port=many", "port: A number is expected."),
        ("shoe=44", "shoe: There is no such field."),
    ],
)
def test_provision_refuses_a_channels_wrong_field(world, given, said):
    done = provision(world, "--channel", f"irc:{given}")
    assert (done.code, done.err) == (1, said)


def test_provision_types_a_channels_fields(world):
    given = "server=irc.example.test,port=6697,nickname=acme,channels=#a;#b"
    done = provision(world, "--no-deploy", "--channel", f"irc:{given}")
    assert done.code == 0, done.err
    config = Tenant.objects.get().channels.get().config
    assert (config["port"], config["channels"]) == (6697, ["#a", "#b"])


def test_provision_refuses_a_channel_that_is_not_name_and_value(world):
    done = provision(world, "--channel", "telegram:bot_token")
    assert (done.code, done.err) == (2, "--channel telegram: “bot_token” is not FIELD=VALUE.")


def test_provision_invites_an_owner(world):
    assert provision(world, "--no-deploy", "--owner", " Ada@example.test").code == 0
    tenant = Tenant.objects.get()
    assert (tenant.members.count(), tenant.invitations.get().email) == (0, "ada@example.test")


def test_provision_refuses_an_owner_who_is_no_address_and_a_plan_that_does_not_exist(world):
    done = provision(world, "--owner", "ada")
    assert done.code == 1
    done = manage("provision", "Acme", "--plan", "gold", "--json")
    assert done.code == 1
    assert done.json["error"]["type"] == "unknown_plan"
    assert done.json["error"]["message"] == "There is no plan “gold”, but: pro."
    assert not Tenant.objects.exists()


def test_a_provision_that_fails_names_the_step_and_the_reason(world):
    world.use("BadRuntime")
    done = provision(world)
    assert done.code == 1
    assert "  ✗ create" in done.out
    assert done.err.strip() == "acme: provision failed: The image is not there."
    told = manage("start", "acme", "--json")
    assert told.code == 1
    assert (told.json["run"]["status"], told.json["run"]["error"]) == ("failed", "The image is not there.")


# --- every command of one tenant ------------------------------------------------------------------------------

OF_A_TENANT = [
    ("start",),
    ("stop",),
    ("restart",),
    ("suspend",),
    ("reactivate",),
    ("resize", "--plan", "pro"),
    ("logs",),
    ("exec", "--", "id"),
    ("chat", "Hello"),
    ("deprovision", "--yes"),
]


@pytest.mark.parametrize("argv", OF_A_TENANT, ids=lambda argv: argv[0])
def test_an_unknown_tenant_is_named_and_ends_with_1(db, argv):
    name, *rest = argv
    at = 0 if name in ("chat", "exec") else len(rest)
    done = manage(name, *rest[:at], "nobody", *rest[at:])
    assert (done.code, done.err) == (1, "There is no tenant “nobody”.")


@pytest.mark.parametrize("argv", OF_A_TENANT, ids=lambda argv: argv[0])
def test_a_command_without_its_tenant_is_wrong_usage(argv):
    with pytest.raises(SystemExit) as ended:
        load_command_class("tenants", argv[0]).run_from_argv(["manage.py", argv[0]])
    assert ended.value.code == 2


def test_a_refusal_as_json_has_the_errors_type(db):
    done = manage("stop", "nobody", "--json")
    assert done.code == 1
    assert done.json["error"]["type"] == "not_found"


def test_a_tenant_is_found_by_slug_and_by_public_id_with_one_query(world, django_assert_num_queries):
    tenant = world.tenant()
    for name in ("acme", str(tenant.public_id), str(tenant.public_id).upper()):
        with django_assert_num_queries(1):
            assert cli.find_tenant(name) == tenant


@pytest.mark.parametrize("name", [str(uuid.uuid5(uuid.NAMESPACE_DNS, "nobody")), "x" * 36, "", "acme\0", "ACME", "%"])
def test_what_is_no_tenant_is_not_found(world, name):
    world.tenant()
    with pytest.raises(cli.NotFound):
        cli.find_tenant(name)


def test_a_deleted_tenant_is_not_found_any_more(world):
    world.tenant(deploy=True)
    assert manage("deprovision", "acme", "--yes").code == 0
    assert manage("start", "acme").err == "There is no tenant “acme”."


def test_a_database_that_is_not_there_is_said_and_ends_with_1(monkeypatch):
    def gone(_name):
        raise OperationalError("no such table: tenants")

    monkeypatch.setattr(cli, "find_tenant", gone)
    done = manage("start", "acme")
    assert done.code == 1
    assert done.err == (
        "The database can't be used: no such table: tenants. A new installation needs: zcplatform bootstrap; "
        "one whose database is lost: zcplatform restore"
    )


# --- up and down ----------------------------------------------------------------------------------------------


def test_stop_start_and_restart(world):
    world.tenant(deploy=True)
    assert manage("stop", "acme").out.splitlines()[-1] == "acme: stopped"
    assert world.agents()[0].state == AgentState.EXITED
    assert manage("start", "acme").out.splitlines()[-1] == "acme: running  http://acme.fake.localhost"
    before = world.agents()[0].started_at
    done = manage("restart", "acme", "--json")
    assert (done.code, done.json["status"], done.json["run"]["kind"]) == (0, "running", "restart")
    assert world.agents()[0].started_at > before


def test_restart_refuses_a_tenant_that_is_meant_to_be_stopped(world):
    world.tenant(deploy=True)
    manage("stop", "acme")
    done = manage("restart", "acme")
    assert (done.code, done.err) == (1, "This tenant is meant to be stopped; start it instead.")


def test_suspend_and_reactivate_by_hold(world):
    tenant = world.tenant(deploy=True)
    assert manage("suspend", "acme", "--note", "asked by mail").out.splitlines()[-1] == "acme: suspended"
    assert manage("suspend", "acme", "--hold", "billing", "--json").json["reason"] == "held"
    assert tenant.holds.get(kind="operator").note == "asked by mail"
    done = manage("start", "acme")
    assert done.code == 1
    assert "suspended" in done.err
    assert manage("reactivate", "acme").out.splitlines()[-1] == "acme: suspended", "one hold is left"
    assert manage("reactivate", "acme", "--hold", "billing").out.splitlines()[-1].startswith("acme: running")
    done = manage("reactivate", "acme")
    assert (done.code, done.err) == (1, "There is no operator hold on this tenant.")


def test_a_hold_that_does_not_exist_is_wrong_usage(world):
    world.tenant()
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("suspend", "acme", "--hold", "whim")


def test_resize_of_a_running_tenant_replaces_its_agent(world):
    world.tenant(deploy=True)
    PlanFactory(slug="big", name="Big", memory_limit_mb=2048)
    done = manage("resize", "acme", "--plan", "big", "--json")
    assert (done.code, done.json["run"]["kind"]) == (0, "resize")
    assert world.agents()[0].spec.memory_mb == 2048


def test_resize_of_a_stopped_tenant_waits_for_the_next_start(world):
    world.tenant(deploy=True)
    manage("stop", "acme")
    PlanFactory(slug="big", name="Big", memory_limit_mb=2048)
    done = manage("resize", "acme", "--plan", "big")
    assert (done.code, done.out.strip()) == (0, "acme: stored; it takes effect at the next start")
    assert manage("resize", "acme", "--plan", "pro", "--json").json["run"] is None
    manage("resize", "acme", "--plan", "big")
    manage("start", "acme")
    assert world.agents()[0].spec.memory_mb == 2048


# --- looking in -----------------------------------------------------------------------------------------------


def test_logs_prints_the_last_lines(world):
    world.tenant(deploy=True)
    world.agents()[0].output[:] = ["one", "two", "three"]
    assert manage("logs", "acme", "--tail", "2").out == "two\nthree\n"
    assert manage("logs", "acme", "--json").json == {"tenant": "acme", "lines": ["one", "two", "three"]}


def test_logs_and_exec_print_no_escapes_of_the_agent(world, monkeypatch):
    world.tenant(deploy=True)
    text = EVIL.replace("\ud800", "")
    world.agents()[0].output[:] = [text]
    monkeypatch.setattr(fakes.FakeRuntime, "answer", ExecResult(exit_code=0, output=text))
    for argv in (("logs", "acme"), ("logs", "acme", "--json"), ("exec", "acme", "--", "id")):
        done = manage(*argv)
        assert "hidden" in done.out
        assert is_harmless(done.out)
    assert manage("exec", "--json", "acme", "--", "id").json["output"] == text


def test_exec_gives_the_commands_output_and_exit_code(world, monkeypatch):
    world.tenant(deploy=True)
    monkeypatch.setattr(fakes.FakeRuntime, "answer", ExecResult(exit_code=7, output="seven\n"))
    done = manage("exec", "acme", "--", "false")
    assert (done.code, done.out) == (7, "seven\n")
    assert manage("exec", "--json", "acme", "--", "false").json == {
        "exit_code": 7,
        "output": "seven\n",
        "truncated": False,
        "timed_out": False,
    }
    assert AuditEntry.objects.filter(action="tenant.exec").count() == 2


def test_exec_says_that_it_killed_what_took_too_long(world, monkeypatch):
    world.tenant(deploy=True)
    monkeypatch.setattr(fakes.FakeRuntime, "answer", ExecResult(exit_code=None, output="", timed_out=True))
    done = manage("exec", "--timeout", "2.5", "acme", "--", "sleep", "60")
    assert (done.code, done.err.strip()) == (1, "killed after 2.5 s")


def test_exec_needs_a_command_and_a_running_agent(world):
    world.tenant()
    done = manage("exec", "acme", "--", "id")
    assert (done.code, done.err) == (1, "The agent does not run: the tenant is draft.")
    assert manage("exec", "acme").err == "command: A command has 1 to 64 words."


def test_exec_refuses_an_option_of_its_own_where_it_would_become_the_command(world):
    world.tenant(deploy=True)
    done = manage("exec", "acme", "--json", "--", "id")
    assert (done.code, done.err) == (2, "Options stand before the tenant: exec [--json] [--timeout S] TENANT -- ARGV")
    assert ("exec", "zctest-acme") not in world.engine.calls


# --- deleting -------------------------------------------------------------------------------------------------


def test_deprovision_asks_for_the_typed_name(world, typed):
    tenant = world.tenant(deploy=True)
    for answer in ("globex\n", "\n", ""):
        typed(answer)
        done = manage("deprovision", "acme")
        assert (done.code, done.err) == (1, "Not confirmed; nothing was changed.")
    assert "Its folder and secrets stay in the trash for 7 days: undelete brings it back." in done.out
    assert world.fresh(tenant).status == Status.RUNNING
    typed("acme\n")
    done = manage("deprovision", "acme")
    assert (done.code, done.out.splitlines()[-1]) == (0, "acme: deleted")
    assert tenant.trash.is_dir()


def test_deprovision_refuses_where_nobody_can_answer(world, nobody):
    tenant = world.tenant(deploy=True)
    done = manage("deprovision", "acme")
    assert done.code == 2
    assert done.err == "This asks for a confirmation; use --yes where nobody can answer."
    assert world.fresh(tenant).status == Status.RUNNING


def test_deprovision_with_purge_leaves_no_folder(world):
    tenant = world.tenant(deploy=True)
    done = manage("deprovision", "acme", "--yes", "--purge", "--json")
    assert (done.code, done.json["status"]) == (0, "deleted")
    assert not tenant.folder.exists()
    assert not tenant.trash.exists()
    assert not AccessToken.objects.filter(tenant=tenant, revoked_at__isnull=True).exists()


def test_teardown_deletes_every_tenant_and_asks_for_the_installations_id(world, typed, settings):
    PlanFactory(slug="pro")
    tenants = [world.tenant("Acme", deploy=True), world.tenant("Globex")]
    typed("yes\n")
    assert manage("teardown").code == 1
    assert Tenant.objects.alive().count() == 2
    typed(f"{settings.INSTANCE}\n")
    done = manage("teardown")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "2 tenants deleted, 0 networks removed"
    assert not any(t.folder.exists() or t.trash.exists() for t in tenants)
    assert world.agents() == []
    assert manage("teardown", "--yes", "--json").json == {
        "deleted": 0,
        "purged": 0,
        "networks": [],
        "failed": [],
    }


def test_teardown_refuses_where_nobody_can_answer(world, nobody):
    world.tenant()
    assert manage("teardown").code == 2
    assert Tenant.objects.alive().exists()


# --- reconcile --------------------------------------------------------------------------------------------------


def test_reconcile_dry_run_changes_nothing(world):
    tenant = world.tenant(deploy=True)
    world.agents()[0].end()
    runs, audited = Run.objects.count(), AuditEntry.objects.count()
    done = manage("reconcile", "--dry-run")
    assert done.code == 0
    assert done.out.split() == ["acme", "agent_down", "repair", "1", "difference", "found"]
    told = manage("reconcile", "--dry-run", "--json").json
    assert [(d["what"], d["slug"]) for d in told["differences"]] == [("agent_down", "acme")]
    assert (Run.objects.count(), AuditEntry.objects.count()) == (runs, audited)
    assert world.agents()[0].state == AgentState.EXITED
    assert world.fresh(tenant).status == Status.RUNNING


def test_reconcile_repairs_and_then_nothing_differs(world):
    world.tenant(deploy=True)
    world.agents()[0].end()
    world.router.routes.clear()
    done = manage("reconcile")
    assert done.code == 0
    assert world.agents()[0].state == AgentState.RUNNING
    assert manage("reconcile").out == "nothing differs\n"


def test_reconcile_names_the_node_that_does_not_answer(world):
    world.tenant(deploy=True)
    world.use("DownRuntime")
    done = manage("reconcile")
    assert done.code == 1
    assert "node fake: The engine does not answer." in done.err


# --- following a run ------------------------------------------------------------------------------------------------


def interrupt_when(condition):
    """Ctrl-C as soon as ``condition`` holds."""

    def wait():
        while not condition():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_leaves_the_run_to_the_workers_and_says_so(world):
    tenant = world.tenant()
    world.use("NeverHealthy")
    watcher = interrupt_when(lambda: any(a.state == AgentState.RUNNING for a in world.agents()))
    done = manage("start", "acme")
    watcher.join()
    run = Run.objects.get(tenant=tenant)
    assert done.code == 130
    assert done.err.strip() == (
        f"Interrupted. The start itself goes on with the workers of serve (run {run.public_id})."
    )
    assert run.is_active
    world.agents()[0].server.status = 200
    world.drive(run)
    assert world.fresh(tenant).status == Status.RUNNING


def test_a_run_that_waits_says_for_what_and_is_not_called_failed(world, monkeypatch):
    world.tenant()
    world.use("DownRuntime")
    monkeypatch.setattr(cli.drive, "__kwdefaults__", {"timeout_s": 1.0})
    done = manage("start", "acme")
    assert done.code == 1
    assert done.out.count("◐") == 1
    assert done.err.strip().endswith("it goes on with the workers of serve")
    assert "start is not at its end yet" in done.err


def test_a_run_whose_place_was_taken_says_so(world):
    tenant = world.tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    services.stop(actor=OPERATOR, tenant=tenant)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert cli.outcome(run) == "acme: provision cancelled: another request took its place"
    assert world.fresh(tenant).desired == Desired.STOPPED


def test_teardown_leaves_nothing_in_the_trash_either(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.delete(actor=OPERATOR, tenant=tenant))
    assert tenant.trash.is_dir()
    assert manage("teardown", "--yes", "--json").json["purged"] == 1
    assert not tenant.trash.exists()


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e9"])
def test_g3_a_time_limit_that_is_none_is_refused(world, limit):
    world.tenant(deploy=True)
    done = manage("exec", "--timeout", limit, "acme", "--", "id")
    assert (done.code, done.err) == (1, "timeout: A time limit is more than 0 and at most 600 seconds.")


def test_exec_of_nothing_is_refused_in_words(world):
    world.tenant(deploy=True)
    assert manage("exec", "acme", "--", "").err == "command: This field is empty."
