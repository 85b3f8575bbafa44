"""C10 and W7: canaries in every secret field, and no answer, log line, audit row or exception that holds one."""

from __future__ import annotations

import json
import logging
import uuid

import pytest

from accounts import api_keys, login_links, mail, rates, second_factor, sign_in
from accounts.letters import Letter
from accounts.models import Mail
from audit.models import AuditEntry
from tenants import configuration, secrets, services
from tenants.api import progress
from tenants.channels import CHANNELS
from tenants.models import Event, TenantSecret
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tests.api.conftest import Undone, alerting_ids_of, make_tenant
from tests.api.table import CALLERS, rows
from tests.api.test_permissions import ask
from tests.commands import manage
from tests.factories import MemberFactory, PlanFactory
from tests.smtp import refusing_server
from tests.tenants.test_channels import VALID
from vault.services import reveal_many
from zcplatform.lib import http
from zcplatform.lib.actors import OPERATOR, SYSTEM
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

ROWS = rows()


@pytest.fixture
def acme(node, vault_key):
    """A tenant with every kind of channel, each secret a canary of its own."""
    PlanFactory(slug="pro", max_channels=50)
    tenant = make_tenant("Acme", channels=tuple((kind, canaries(kind)) for kind in sorted(CHANNELS)))
    secrets.put(tenant, "agent_token", SecretStr(f"canary-agent-{uuid.uuid4().hex}"), actor=SYSTEM)
    return tenant


def canaries(kind):
    """Valid values whose secrets end in something that occurs nowhere else."""
    values = dict(VALID[kind])
    for field in CHANNELS[kind].fields:
        if field.secret and field.name in values:
            values[field.name] += uuid.uuid4().hex
    return values


def planted(tenant):
    ties = list(TenantSecret.objects.filter(tenant=tenant).select_related("secret"))
    opened = reveal_many([tie.secret for tie in ties], actor=SYSTEM, why="test")
    values = {value.reveal() for value in opened.values()}
    assert len(values) == len(ties) >= 16
    return values


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    monkeypatch.setattr(http, "request", lambda *a, **k: http.Reply(401, {}, b"{}"))


@pytest.fixture
def of_accounts(acme, settings):
    """What lets people in, and what lets the platform in elsewhere: of a member of the tenant, and of the settings."""
    user = MemberFactory(tenant=acme, role="owner").user
    issued = sign_in.open_api_login(user, by="code", verified=True, origin={}, audit={})
    key = api_keys.create(user, actor=OPERATOR, name="theirs", scopes=["admin"])[1].reveal()
    enrolled = second_factor.enrol_by_operator(user, actor=OPERATOR)
    device = second_factor.AppDevice.objects.get(user=user)
    link = login_links.make_login_link(user, actor=OPERATOR)
    settings.EMAIL_HOST_PASSWORD = f"canary-smtp-{uuid.uuid4().hex}"
    password = f"canary-redis-{uuid.uuid4().hex}"
    settings.REDIS_URL = f"redis://:{password}@127.0.0.1:1/0"
    return {
        key, issued.access.reveal(), issued.refresh.reveal(), link, password, settings.EMAIL_HOST_PASSWORD,
        second_factor.app_secret(device), device.bin_key.hex(), device.key, *enrolled.recovery_codes,
    }  # fmt: skip


@pytest.mark.parametrize("caller", [name for name in CALLERS if name not in ("anonymous", "expired_key", "suspended")])
def test_c10_no_secret_in_any_answer_log_audit_row_or_event(caller, people, ids, acme, of_accounts, caplog):
    notifier = f"canary-notifier-{uuid.uuid4().hex}"
    canary = {*planted(acme), notifier, *of_accounts, getattr(people, caller).bearer}
    ids = {**ids, **alerting_ids_of(acme, notifier)}
    told = []
    caplog.set_level(logging.DEBUG)
    for route in ROWS:
        with Undone():
            answer = ask(getattr(people, caller), route, ids)
            content = b"" if answer.streaming else answer.content
            told.append((route, content.decode() + str(answer.headers)))
            told.append((f"{route}: audit", json.dumps(list(AuditEntry.objects.values_list("detail_json", flat=True)))))
            told.append((f"{route}: events", json.dumps(list(Event.objects.values_list("data", flat=True)))))
    told.append(("log", caplog.text + "".join(str(record.__dict__) for record in caplog.records)))
    leaks = [where for where, text in told if any(value in text for value in canary)]
    assert leaks == []


def test_c10_a_redis_that_is_down_is_told_without_its_password(people, ids, of_accounts, caplog, monkeypatch, settings):
    """The fault of the client that holds the address: in every answer, every log line, and what the log keeps of it."""
    monkeypatch.setattr(rates, "limiter", rates.limiter_on(settings.REDIS_URL))
    rates.permits.clear()
    caplog.set_level(logging.DEBUG)
    told = []
    for route in ROWS:
        with Undone():
            answer = ask(people.owner, route, ids)
            told.append((route, b"" if answer.streaming else answer.content))
            if route in ("GET /tenants", "POST /auth/otp/request"):
                assert (answer.status_code, answer.json()["error"]["type"]) == (503, "rates_unavailable")
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "rates_unavailable" in logged
    assert [where for where, text in [*told, ("log", logged.encode())] if holds(text, of_accounts)] == []


def test_c10_a_mail_server_that_repeats_our_password_is_told_without_it(db, caplog, settings):
    password = f"canary-smtp-{uuid.uuid4().hex}"
    caplog.set_level(logging.DEBUG)
    with refusing_server(settings, password):
        mail.queue("dana@example.com", Letter("S", "T", ""))
        assert mail.send_due() == 0
        told = manage("test_smtp", "--to", "ops@example.com", "--json")
    assert (told.code, told.json["error"]["type"]) == (1, "smtp_login_refused")
    ours = "".join(str(vars(record)) for record in caplog.records if record.name != "mail.log")  # the server's own
    kept = str(list(Mail.objects.values())) + str(list(AuditEntry.objects.values()))
    assert "mail_delayed" in ours
    assert not holds((kept + ours + told.out + told.err).encode(), {password})


def holds(text, canary):
    return any(value.encode() in text for value in canary)


def test_c10_what_is_shown_of_a_secret_is_four_characters_at_most(people, acme):
    canary = planted(acme)
    config = people.owner.get(f"/tenants/{acme.public_id}/config").json()
    channels = people.owner.get(f"/tenants/{acme.public_id}/channels?limit=200").json()["items"]
    masks = [config["provider_key"], *(mask for channel in channels for mask in channel["secrets"].values())]
    assert len(masks) == len(canary) - 1  # the agent's own token is shown to nobody
    for mask in masks:
        shown = mask.removeprefix("••••")
        assert mask.startswith("••••") and len(shown) <= 4
        assert not shown or any(value.endswith(shown) for value in canary)


def test_what_was_refused_is_not_repeated(people, acme, caplog):
    """A secret that is in the wrong place, or malformed, is not in the answer about it."""
    caplog.set_level(logging.DEBUG)
    canary = f"canary {uuid.uuid4().hex}"
    at = f"/tenants/{acme.public_id}"
    tries = [
        ("patch", f"{at}/config", {"provider_key": canary}),
        ("patch", f"{at}/config", {"api_key": canary}),
        ("patch", f"{at}/config", {"provider_key": [canary]}),
        ("put", f"{at}/config", {"provider": "custom", "model": "m", "base_url": f"https://u:{canary}@x.test"}),
        ("post", f"{at}/channels", {"kind": "telegram", "values": {"bot_token": canary}}),
        ("post", f"{at}/channels", {"kind": "telegram", "values": {canary: "x"}}),
        ("post", f"{at}/channels", {"kind": "telegram", "values": canary}),
        ("post", f"{at}/config/rollback", {"revision": 1, "provider_key": canary}),
    ]
    for method, path, body in tries:
        answer = people.owner(method, path, body)
        assert answer.status_code == 422, (path, body)
        named = {canary} & set(body.get("values", {})) if isinstance(body.get("values"), dict) else set()
        if not named:  # an unknown field is named, so that it can be found
            assert canary not in answer.content.decode()
    assert canary not in caplog.text


def test_an_exception_holds_no_secret(acme):
    canary = f"1:{uuid.uuid4().hex} "
    with pytest.raises(InvalidField) as error:
        configuration.add_channel(actor=OPERATOR, tenant=acme, kind="telegram", values={"bot_token": canary + "\n"})
    assert canary not in str(error.value) + str(error.value.details)


def test_no_secret_is_in_the_progress_of_a_run(acme):
    canary = planted(acme)
    told = b"".join(event.encoded() for event in progress.events(acme.runs.first().pk) if event)
    assert b"event: end" in told
    assert not any(value.encode() in told for value in canary)


def test_logs_and_exec_come_without_the_tenants_secrets(acme, engine, people):
    engine.clear()
    services.start(actor=OPERATOR, tenant=acme)
    run = acme.runs.get(status="queued")
    execute(run.pk, PROCEDURE)
    canary = planted(acme)
    for agent in engine.agents.values():
        agent.output.extend(canary)
    lines = people.contributor.get(f"/tenants/{acme.public_id}/logs?tail=1000").json()["lines"]
    assert len(lines) >= len(canary)
    assert not any(value in line for value in canary for line in lines)
