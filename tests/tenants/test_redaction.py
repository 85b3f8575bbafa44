"""What one tenant calls a secret disappears from its own outputs, and from nobody else's: neither an oracle for others'
secrets nor a way to hide one's traces."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from audit.models import AuditEntry
from tenants import configuration, connections, last_words, operations
from tenants.configuration import ConfigInput
from tenants.models import Event
from tenants.preview import preview
from tenants.runtimes.base import ExecResult
from tests import fakes
from zcplatform.lib import http
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.envelope import to_envelope
from zcplatform.lib.errors import Conflict, InvalidField, RunFailed
from zcplatform.lib.redact import SecretStr

WORD = "exception"
LINE = f"an {WORD} was raised while it was running"


@pytest.fixture
def two(world, monkeypatch):
    """A, who calls a common word a secret, and B; both run, print the same line, and say it to every command."""
    ran = []

    def run(_runtime, _handle, argv, **_more):
        ran.append(argv)
        return ExecResult(exit_code=0, output=LINE)

    monkeypatch.setattr(fakes.ServingRuntime, "exec", run)
    a, b = world.tenant("Acme", deploy=True), world.tenant("Beta", deploy=True)
    for agent in world.agents():
        agent.output.append(LINE)
    return SimpleNamespace(a=a, b=b, world=world, ran=ran)


def store(two):
    given = ConfigInput(provider="openai", model="m", provider_key=SecretStr(WORD))
    two.world.drive(configuration.update(actor=OPERATOR, tenant=two.world.fresh(two.a), given=given))
    for agent in two.world.agents():
        if LINE not in agent.output:
            agent.output.append(LINE)


def logs(tenant):
    return operations.read_logs(actor=OPERATOR, tenant=tenant)


def followed(tenant):
    lines = operations.follow_logs(actor=OPERATOR, tenant=tenant)
    return next(lines)


def output(tenant):
    return operations.execute(actor=OPERATOR, tenant=tenant, command=["true"]).output


def kept(tenant):
    last_words.save(tenant, LINE)
    return (tenant.folder / "logs" / last_words.NAME).read_text()


SINKS = [logs, followed, output, kept, lambda tenant: last_words.clean(tenant, LINE)]


@pytest.mark.parametrize("sink", SINKS)
def test_a_stored_secret_is_scrubbed_from_its_tenants_outputs_and_from_no_others(two, sink):
    store(two)
    a, b = two.world.fresh(two.a), two.world.fresh(two.b)
    assert WORD not in sink(a) and "***" in sink(a)
    assert LINE in sink(b)


@pytest.mark.parametrize(
    "after", [{"base_url": "https://b.example.com", "key": "sk-another-0123456789"}, {"provider": ""}]
)
@pytest.mark.parametrize("sink", SINKS)
def test_a_secret_that_waits_for_a_rollback_is_told_no_more_than_one_in_use(two, sink, after):
    """Or whoever may change the model's address would read in yesterday's lines the key that was put aside by that."""

    def change(key=None, **values):
        given = ConfigInput(**values, provider_key=SecretStr(key) if key else None)
        two.world.drive(configuration.update(actor=OPERATOR, tenant=two.world.fresh(two.a), given=given))

    change(provider="custom", model="m", base_url="https://a.example.com", key=WORD)
    change(**after)
    for agent in two.world.agents():
        agent.output.append(LINE)
    assert WORD not in sink(two.world.fresh(two.a)) and "***" in sink(two.world.fresh(two.a))
    with pytest.raises(InvalidField, match="holds a secret"):
        operations.execute(actor=OPERATOR, tenant=two.world.fresh(two.a), command=["grep", WORD])


@pytest.mark.parametrize("sink", SINKS)
def test_what_was_only_previewed_or_tested_is_no_secret_of_anybody(two, sink, monkeypatch):
    monkeypatch.setattr(http, "request", lambda *a, **k: http.Reply(401, {}, b"{}"))
    given = ConfigInput(provider="openai", model="m", provider_key=SecretStr(WORD))
    preview(actor=OPERATOR, tenant=two.world.fresh(two.a), given=given)
    connections.try_provider(actor=OPERATOR, tenant=two.world.fresh(two.a), given=given)
    with pytest.raises(InvalidField):
        configuration.add_channel(
            actor=OPERATOR, tenant=two.world.fresh(two.a), kind="irc", values={"nickserv_password": WORD}
        )
    assert LINE in sink(two.world.fresh(two.a)) and LINE in sink(two.world.fresh(two.b))


def test_the_audit_events_and_answers_about_others_say_the_word(two):
    store(two)
    b = two.world.fresh(two.b)
    operations.execute(actor=OPERATOR, tenant=b, command=["grep", WORD])
    row = AuditEntry.objects.filter(action="tenant.exec").get()
    assert json.loads(row.detail_json)["argv"] == ["grep", WORD]
    configuration.update(actor=OPERATOR, tenant=b, given=ConfigInput(extra={}))
    assert Event.objects.filter(tenant=b, type="config.update").exists()
    assert to_envelope(Conflict(LINE, note=LINE), "r")[1]["error"]["message"] == LINE


def test_the_audit_is_not_scrubbed_by_what_a_tenant_calls_a_secret(two):
    store(two)
    two.world.drive(two.a.runs.order_by("-pk").first())
    before = AuditEntry.objects.count()
    with pytest.raises(InvalidField) as refused:
        operations.execute(actor=OPERATOR, tenant=two.world.fresh(two.a), command=["rm", f"--{WORD}"])
    assert refused.value.type == "secret_in_command"
    assert two.ran == [], "what the audit could not tell is not done"
    rows = AuditEntry.objects.order_by("id")[before:]
    assert [row.action for row in rows] == ["secret.read"]


def test_no_secret_of_a_tenant_gets_into_the_audit_of_its_commands(two):
    store(two)
    token = json.loads((two.a.folder / "config" / "demo.json").read_text())["token"]
    operations.execute(actor=OPERATOR, tenant=two.world.fresh(two.a), command=["grep", token])
    row = AuditEntry.objects.filter(action="tenant.exec").get()
    assert json.loads(row.detail_json)["argv"] == ["grep", "***"]


def test_the_error_of_a_run_is_told_without_its_tenants_secrets(two, monkeypatch):
    def fail(_runtime, _image):
        raise RunFailed(f"could not: {LINE}", type="image_missing")

    monkeypatch.setattr(fakes.ServingRuntime, "ensure_image", fail)
    given = ConfigInput(provider="openai", model="m", provider_key=SecretStr(WORD))
    failed = two.world.drive(configuration.update(actor=OPERATOR, tenant=two.world.fresh(two.a), given=given))
    other = two.world.drive(
        configuration.update(
            actor=OPERATOR, tenant=two.world.fresh(two.b), given=ConfigInput(extra={"metrics": "none"})
        )
    )
    assert WORD not in failed.error and "an ***" in failed.error
    assert LINE in other.error
