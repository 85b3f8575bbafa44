"""A secret is used with the address that it was entered for and with no other, whatever kind of thing it belongs to and
whichever way the address changes."""

from __future__ import annotations

import importlib
import pkgutil
import re
from ipaddress import ip_network

import pytest
from django.apps import apps

from tenants import configuration, connections, origins, revisions, secrets, services
from tenants import migrations as tenants_migrations
from tenants.channels import CHANNELS
from tenants.configuration import ConfigInput
from tenants.models import Channel, Tenant
from tenants.preview import preview
from tenants.provisioning.spec import agent_settings
from tenants.rollback import foresee, rollback
from tests.outside import server, url
from tests.tenants.test_channels import VALID
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR, SYSTEM
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

KEY = "sk-canary-0123456789abcdef"
ELSEWHERE = {
    ("mattermost", "url"): "https://thief.example.net",
    ("matrix", "homeserver"): "https://thief.example.net",
    ("email", "imap_host"): "thief.example.net",
    ("email", "imap_port"): 1993,
    ("email", "smtp_host"): "thief.example.net",
    ("email", "smtp_port"): 1465,
    ("irc", "server"): "thief.example.net",
    ("irc", "port"): 1697,
    ("lark", "region"): "lark",
}
IRC = {**VALID["irc"], "nickserv_password": "canary-nickserv-0123"}


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


def add(tenant, kind, **values):
    given = {**(IRC if kind == "irc" else VALID[kind]), **values}
    return configuration.add_channel(actor=OPERATOR, tenant=tenant, kind=kind, values=given)[0]


def change(channel, enabled=None, **values):
    fresh = Channel.objects.get(pk=channel.pk)
    configuration.update_channel(actor=OPERATOR, channel=fresh, values=values, enabled=enabled)
    return Channel.objects.get(pk=channel.pk)


def opened(tenant):
    return secrets.reveal_all(tenant, actor=OPERATOR, why="test")


def in_use(channel):
    return {name: value.reveal() for name, value in opened(channel.tenant).of_channel(channel.pk).items()}


def set_model(tenant, key=None, **values):
    given = ConfigInput(**values, provider_key=SecretStr(key) if key is not None else None)
    configuration.update(actor=OPERATOR, tenant=Tenant.objects.get(pk=tenant.pk), given=given)


def key_of(tenant):
    found = opened(Tenant.objects.get(pk=tenant.pk)).of_tenant.get("provider_key")
    return found.reveal() if found else None


def ollama(tenant, address="http://127.0.0.1:11434/v1", key=KEY):
    set_model(tenant, key, provider="ollama", model="m", base_url=address)


PLACE_LIKE = re.compile(r"(^|_)(url|uri|host|server|homeserver|port|address|region|endpoint|domain|proxy)(_|$)")


def test_every_field_that_says_where_a_service_is_counts_as_a_place():
    named = {
        (kind.name, f.name)
        for kind in CHANNELS.values()
        for f in kind.fields
        if PLACE_LIKE.search(f.name) and not f.secret
    }
    named -= {("email", "from_address")}  # a name on a letter, and no place
    places = {(k.name, f.name) for k in CHANNELS.values() for f in k.fields if f.place or f.type == "url"}
    assert named == places == ELSEWHERE.keys() | {("signal", "http_url")}, "signal has no secret"


@pytest.mark.parametrize(("kind", "field"), ELSEWHERE)
def test_another_address_hides_the_secrets_and_the_old_one_brings_them_back(world, kind, field):
    tenant = world.tenant()
    channel = add(tenant, kind)
    before, old = in_use(channel), channel.config.get(field)
    assert before
    moved = change(channel, **{field: ELSEWHERE[kind, field]})
    assert in_use(channel) == {}
    needs = [f.name for f in CHANNELS[kind].fields if f.secret and f.required]
    assert (configuration.missing_secrets(moved), moved.enabled) == (needs, not needs)
    assert all(not channel.secrets for channel in agent_settings(deployed(tenant)).channels)
    back = change(channel, **{field: old})
    assert in_use(back) == before


def deployed(tenant):
    secrets.put(tenant, "agent_token", SecretStr("canary-agent-0123456789"), actor=SYSTEM)
    return Tenant.objects.select_related("config").get(pk=tenant.pk)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("mattermost", {"url": "https://CHAT.example.com.:443/team"}),
        ("irc", {"port": 6697}),
        ("email", {"imap_port": 993, "smtp_port": 465, "username": "other"}),
        ("lark", {"region": "feishu", "allow_from": ["*"]}),
    ],
)
def test_the_same_place_in_another_spelling_hides_nothing(world, kind, values):
    first = {"url": "https://chat.example.com"} if kind == "mattermost" else {}
    channel = add(world.tenant(), kind, **first)
    before = in_use(channel)
    assert in_use(change(channel, **values)) == before != {}


@pytest.mark.parametrize(("kind", "field"), [("mattermost", "url"), ("matrix", "homeserver")])
def test_a_live_test_takes_no_stored_secret_to_another_address(world, kind, field):
    with server() as owners, server() as thief:
        channel = add(world.tenant(), kind, **{field: url(owners)})
        moved = change(channel, **{field: url(thief)})
        result = connections.try_channel(actor=OPERATOR, channel=moved)
        assert result.ok is False and "lacks its" in result.message
        with pytest.raises(InvalidField) as error:
            change(moved, enabled=True)
        assert error.value.details["field"] in CHANNELS[kind].secret_fields
        entered = change(moved, enabled=True, **{error.value.details["field"]: "entered-anew-0123"})
        connections.try_channel(actor=OPERATOR, channel=entered)
        change(entered, **{field: url(owners)})
    assert [handler.headers["Authorization"] for handler in thief.seen] == ["Bearer entered-anew-0123"]


def test_a_key_that_nobody_demands_does_not_follow_the_model_either(world):
    """A provider that needs no key: nothing refuses the change, so the key itself has to stay behind."""
    with server() as owners, server() as thief:
        tenant = world.tenant(agent="nanobot")
        ollama(tenant, url(owners, path="/v1"))
        tested = ConfigInput(base_url=url(thief, path="/v1"))
        connections.try_provider(actor=OPERATOR, tenant=world.fresh(tenant), given=tested)
        told = preview(actor=OPERATOR, tenant=world.fresh(tenant), given=tested)
        assert "-" in told.files[0].diff and "+" in told.files[0].diff
        assert not [line for line in told.files[0].diff.splitlines() if line[:1] in "+ " and "[provider_key" in line]
        set_model(tenant, base_url=url(thief, path="/v1"))
        connections.try_provider(actor=OPERATOR, tenant=world.fresh(tenant))
        model = agent_settings(deployed(tenant)).model
        assert (key_of(tenant), model.api_key.reveal()) == (None, "unused")
        set_model(tenant, base_url=url(owners, path="/v1"))
        assert key_of(tenant) == KEY
    assert len(thief.seen) == 2
    assert not any(KEY in str(handler.headers) for handler in thief.seen)


@pytest.mark.parametrize(
    "values",
    [
        {"base_url": "https://thief.example.net/v1"},
        {"base_url": "https://models.example.com:8443/v1"},
        {"base_url": "http://models.example.com/v1"},
        {"provider": "openai", "model": "m"},
    ],
)
def test_a_key_that_the_provider_demands_has_to_be_entered_for_the_new_place(world, values):
    tenant = world.tenant()
    set_model(tenant, KEY, provider="custom", model="m", base_url="https://models.example.com/v1")
    for given in (ConfigInput(**values), ConfigInput(**{"provider": "custom", "model": "m", **values}).complete()):
        with pytest.raises(InvalidField) as error:
            configuration.update(actor=OPERATOR, tenant=world.fresh(tenant), given=given)
        assert error.value.details["field"] == "provider_key"
    set_model(tenant, base_url="https://MODELS.example.com:443/v2")
    assert key_of(tenant) == KEY


def test_a_rollback_brings_back_the_key_that_was_entered_for_its_address(world):
    tenant = world.tenant()
    set_model(tenant, KEY, provider="openai", model="m")
    set_model(tenant, "groq-key-0123456789", provider="groq", model="m")
    set_model(tenant, provider="")
    fates = [foresee(world.fresh(tenant), number).key for number in (1, 2, 3, 4)]
    assert fates == ["", "returns", "returns", ""]
    for number, key in ((2, KEY), (3, "groq-key-0123456789"), (2, KEY), (4, None)):
        rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=number)
        assert key_of(tenant) == key
    rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2)
    assert [foresee(world.fresh(tenant), number).key for number in (2, 3, 4)] == ["stays", "returns", "unused"]


def test_a_rollback_to_an_old_address_takes_no_new_secret_there(world):
    tenant = world.tenant()
    channel = add(tenant, "mattermost", url="https://one.example.com")
    secret = in_use(channel)
    change(channel, url="https://two.example.com", bot_token="second-secret-0123", enabled=True)
    assert foresee(world.fresh(tenant), 2).incomplete == ()
    done = rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2)
    assert (in_use(channel), done.incomplete) == (secret, ())
    assert Channel.objects.get(pk=channel.pk).enabled
    rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=3)
    assert in_use(channel) == {"bot_token": "second-secret-0123"}


def test_a_secret_that_was_replaced_for_the_same_address_does_not_come_back(world):
    tenant = world.tenant()
    set_model(tenant, KEY, provider="openai", model="m")
    set_model(tenant, "sk-rotated-0123456789", provider="openai", model="m2")
    rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2)
    assert key_of(tenant) == "sk-rotated-0123456789"


def test_another_tenants_secret_does_not_come_back_here(world):
    other, tenant = world.tenant("Other"), world.tenant("Acme")
    for each in (other, tenant):
        set_model(each, f"{KEY}-{each.slug}", provider="openai", model="m")
    foreign = other.revisions.get(number=2).snapshot["secrets"]
    set_model(tenant, SecretStr("").reveal(), provider="")
    row = tenant.revisions.get(number=2)
    row.snapshot["secrets"] = foreign
    row.save()
    with pytest.raises(InvalidField):
        rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2)


def test_what_stayed_behind_goes_with_the_last_revision_that_names_it(world, monkeypatch):
    monkeypatch.setattr(revisions, "KEEP", 3)
    tenant = world.tenant()
    set_model(tenant, KEY, provider="openai", model="m")
    set_model(tenant, "groq-key-0123456789", provider="groq", model="m")
    assert Secret.objects.count() == 2
    set_model(tenant, provider="groq", model="m2")
    assert Secret.objects.count() == 2
    set_model(tenant, provider="groq", model="m3")
    assert Secret.objects.get().pk == tenant.secrets.get().secret_id


def test_what_stayed_behind_goes_with_its_channel_and_with_its_tenant(world):
    tenant = world.tenant()
    channel = add(tenant, "mattermost")
    change(channel, url="https://two.example.com", bot_token="second-secret-0123")
    set_model(tenant, KEY, provider="openai", model="m")
    set_model(tenant, "groq-key-0123456789", provider="groq", model="m")
    assert Secret.objects.count() == 4
    configuration.delete_channel(actor=OPERATOR, channel=Channel.objects.get(pk=channel.pk))
    assert Secret.objects.count() == 2
    world.drive(services.delete(actor=OPERATOR, tenant=world.fresh(tenant), purge=True))
    assert not Secret.objects.exists()


def test_what_was_stored_before_there_were_origins_gets_that_of_the_address_beside_it(world):
    tenant = world.tenant()
    set_model(tenant, KEY, provider="custom", model="m", base_url="https://models.example.com/v1")
    channel, fixed = add(tenant, "email"), add(tenant, "telegram")
    secrets.put(tenant, "agent_token", SecretStr("canary-agent-0123456789"), actor=SYSTEM)
    before = dict(Secret.objects.values_list("pk", "origin"))
    assert len(set(before.values())) == 3
    Secret.objects.update(origin="")
    names = [module.name for module in pkgutil.iter_modules(tenants_migrations.__path__)]
    name = next(name for name in names if name.endswith("_origins"))
    importlib.import_module(f"tenants.migrations.{name}").note_origins(apps, None)
    assert dict(Secret.objects.values_list("pk", "origin")) == before
    assert {origins.of_channel(channel), origins.of_channel(fixed)} <= set(before.values())
