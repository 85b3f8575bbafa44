"""Tests of a provider and of channels: real calls to real servers, and nothing told that a scanner could use (H7)."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from audit.models import AuditEntry
from tenants import channel_calls, configuration, connections, providers
from tenants.channels import CHANNELS
from tenants.configuration import ConfigInput
from tests.factories import MemberFactory
from tests.outside import server, url
from tests.tenants.test_channels import VALID
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


def custom(world, address, name="Acme"):
    config = ConfigInput(provider="custom", model="m", base_url=address, provider_key=SecretStr(KEY))
    return world.tenant(name, config=config)


def run(tenant, **given):
    return connections.try_provider(actor=OPERATOR, tenant=tenant, given=ConfigInput(**given))


def models(handler):
    good = handler.path == "/v1/models" and handler.headers["Authorization"] == f"Bearer {KEY}"
    handler.answer_json(200 if good else 401, {"data": []})


def test_the_stored_key_reads_the_list_of_models(world):
    with server(models) as made:
        result = run(custom(world, url(made, path="/v1")))
    assert (result.ok, result.message) == (True, "It works.")
    entry = AuditEntry.objects.filter(action="provider.test").get()
    assert json.loads(entry.detail_json) == {"ok": True, "provider": "custom"}


def test_h7_whatever_is_wrong_with_an_address_of_the_tenants_the_answer_is_the_same(world, settings):
    with server(lambda h: h.answer(401)) as refusing, server(lambda h: h.wfile.write(b"SSH-2.0-x\r\n")) as other:
        with server() as gone:
            pass
        tenant = custom(world, url(refusing, path="/v1"))
        answers = {run(tenant).message}
        for address in (url(gone), url(other), "http://169.254.169.254/latest", "http://10.0.0.1:22"):
            answers.add(run(tenant, base_url=address, provider_key=SecretStr(KEY)).message)
    assert answers == {connections.FAILED}


def test_h7_how_long_it_took_is_told_roughly():
    assert [connections._bucket(s) for s in (0.001, 0.99, 1.0, 4.9, 5.0, 9.9)] == [
        "under 1 s",
        "under 1 s",
        "1 to 5 s",
        "1 to 5 s",
        "over 5 s",
        "over 5 s",
    ]


def test_h6_a_stored_key_does_not_go_to_another_address(world):
    with server(models) as made, server() as thief:
        tenant = custom(world, url(made, path="/v1"))
        with pytest.raises(InvalidField) as error:
            run(tenant, base_url=url(thief))
        assert error.value.details["field"] == "provider_key"
        run(tenant, base_url=url(thief), provider_key=SecretStr("another-key-0123"))
    assert [handler.headers["Authorization"] for handler in thief.seen] == ["Bearer another-key-0123"]


def test_values_that_are_not_stored_yet_can_be_tested(world):
    tenant = world.tenant()
    with server(models) as made:
        given = {"provider": "custom", "model": "m", "base_url": url(made, path="/v1")}
        assert run(tenant, **given, provider_key=SecretStr(KEY)).ok
        assert run(tenant, **given, provider_key=SecretStr("wrong-key-000000")).ok is False
    assert world.fresh(tenant).config.provider_name == ""


def test_of_a_provider_with_its_own_address_the_reason_is_told(world, monkeypatch):
    config = ConfigInput(provider="openai", model="m", provider_key=SecretStr(KEY))
    with server(lambda h: h.answer(401)) as made:
        kind = providers.ProviderKind("openai", "OpenAI", url(made, path="/v1"))
        monkeypatch.setitem(providers.PROVIDERS, "openai", kind)
        assert run(world.tenant(config=config)).message == "The service did not accept the key."


def test_without_a_provider_there_is_nothing_to_test(world):
    with pytest.raises(Conflict) as error:
        run(world.tenant())
    assert error.value.type == "no_provider"


def test_who_may_not_test_may_not_and_strangers_see_nothing(world, stranger):
    tenant = world.tenant()
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=VALID["webhook"])
    viewer = MemberFactory(tenant=tenant, role="viewer").user.as_actor()
    for actor, error in ((viewer, Forbidden), (stranger.as_actor(), NotFound)):
        with pytest.raises(error):
            connections.try_provider(actor=actor, tenant=tenant)
        with pytest.raises(error):
            connections.try_channel(actor=actor, channel=channel)


ANSWERS = {
    "telegram": {"ok": True},
    "discord": {"id": "1"},
    "slack": {"ok": True},
    "whatsapp": {"id": VALID["whatsapp"]["phone_number_id"]},
    "mattermost": {"id": "bot"},
    "matrix": {"user_id": VALID["matrix"]["user_id"]},
    "signal": {},
    "lark": {"code": 0},
    "dingtalk": {"accessToken": "t"},
    "qq": {"access_token": "t"},
}
REFUSALS = {"slack": {"ok": False}, "lark": {"code": 10003}, "qq": {"code": 100007}, "matrix": {"user_id": "@x:y"}}


def channel_at(world, monkeypatch, made, kind):
    """A channel whose service is the server, whether the tenant or the platform says where it is."""
    for name in channel_calls.SERVICES:
        monkeypatch.setitem(channel_calls.SERVICES, name, url(made).rstrip("/"))
    address = {"mattermost": "url", "matrix": "homeserver", "signal": "http_url"}.get(kind)
    values = {**VALID[kind], **({address: url(made)} if address else {})}
    return configuration.add_channel(actor=OPERATOR, tenant=world.tenant(), kind=kind, values=values)[0]


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_channels_service_is_asked_who_we_are(world, monkeypatch, kind):
    with server(lambda h: h.answer_json(200, ANSWERS[kind])) as made:
        result = connections.try_channel(actor=OPERATOR, channel=channel_at(world, monkeypatch, made, kind))
    assert (result.ok, len(made.seen)) == (True, 1)
    sent = made.seen[0]
    told = f"{sent.path} {sent.headers} {sent.body.decode()}"
    secrets = [VALID[kind][name] for name in CHANNELS[kind].secret_fields if name in VALID[kind]]
    assert not secrets or any(secret in told for secret in secrets)


@pytest.mark.parametrize("kind", sorted(ANSWERS.keys() - {"signal"}))
def test_a_refusal_is_told_also_when_it_comes_with_status_200(world, monkeypatch, kind):
    with server(lambda h: h.answer_json(200 if kind in REFUSALS else 401, REFUSALS.get(kind, {}))) as made:
        result = connections.try_channel(actor=OPERATOR, channel=channel_at(world, monkeypatch, made, kind))
    assert result.ok is False


@pytest.mark.parametrize("kind", ["email", "irc"])
def test_a_kind_without_such_a_question_is_said_to_be_untested(world, kind):
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=world.tenant(), kind=kind, values=VALID[kind])
    result = connections.try_channel(actor=OPERATOR, channel=channel)
    assert result.ok is None and "can't be tested" in result.message


def test_every_kind_is_called_or_said_to_be_untested():
    assert set(CHANNELS) == set(ANSWERS) | {"webhook", "email", "irc"}


def test_a_webhook_works_when_its_agent_answers(world):
    tenant = world.tenant(deploy=True)
    channel, run = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=VALID["webhook"])
    world.drive(run)
    channel.refresh_from_db()
    assert connections.try_channel(actor=OPERATOR, channel=channel).ok
    world.agents()[0].server.status = 500
    assert connections.try_channel(actor=OPERATOR, channel=channel).ok is False
    draft = world.tenant("Other")
    idle, _ = configuration.add_channel(actor=OPERATOR, tenant=draft, kind="webhook", values=VALID["webhook"])
    assert "not running" in connections.try_channel(actor=OPERATOR, channel=idle).message


def in_container(world, monkeypatch, mode="", **config):
    """A tenant whose agent runs in a container, behind the firewall."""
    tenant = world.tenant(config=ConfigInput(provider="custom", model="m", provider_key=SecretStr(KEY), **config))
    tenant.node.runtime, tenant.config.egress = "docker", mode
    monkeypatch.setattr("tenants.egress.upkeep.why_not", lambda _node: "")
    return tenant


def test_what_the_platform_reaches_and_the_agent_does_not_is_no_it_works(world, monkeypatch, settings):
    with server(models) as made:
        address = url(made, path="/v1")
        private = address.replace("127.0.0.1", "model.lan")
        monkeypatch.setattr("tenants.egress.reach.http.addresses_of", lambda *_: ["192.168.1.5"])
        monkeypatch.setattr(connections, "_call", lambda *_args, **_more: connections.Result(True, "It works."))
        tenant = in_container(world, monkeypatch, base_url=private)
        told = run(tenant)
        assert (told.ok, "reaches no private network" in told.message) == (False, True)
        tenant.config.egress = "gateway"
        assert "EGRESS_INTERNAL" in run(tenant).message
        settings.EGRESS_INTERNAL = frozenset({("model.lan", int(private.rpartition(":")[2].split("/")[0]))})
        assert run(tenant).ok
        tenant.config.egress = "open"
        assert not run(tenant).ok, "which the mode open does not look at"
        monkeypatch.setattr("tenants.egress.reach.http.addresses_of", lambda *_: ["93.184.216.34"])
        assert run(tenant).ok
        tenant.node.runtime = "process"
        monkeypatch.setattr("tenants.egress.reach.http.addresses_of", lambda *_: ["127.0.0.1"])
        assert run(tenant).ok, "who runs on this host itself"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "model.localhost", "[::1]", "0.0.0.0"])
def test_the_loopback_of_a_container_is_refused_with_what_to_write(world, monkeypatch, host):
    tenant = in_container(world, monkeypatch, base_url="http://model.lan:1/v1")
    asked = {"base_url": f"http://{host}:11434/v1", "provider_key": SecretStr(KEY)}
    for act in (configuration.check, lambda _kind, given, row: run(row, **asked)):
        with pytest.raises(InvalidField) as refusal:
            act(tenant.agent_kind, ConfigInput(**asked), tenant)
        assert (refusal.value.details["field"], "in your network" in refusal.value.message) == ("base_url", True)


def test_a_tenant_is_not_made_with_the_loopback_of_its_container(world, monkeypatch):
    node = world.tenant("First").node
    node.runtime = "docker"
    monkeypatch.setattr("tenants.services.pick_node", lambda _runtime: node)
    with pytest.raises(InvalidField, match="only itself"):
        custom(world, "http://localhost:11434/v1", "Second")
