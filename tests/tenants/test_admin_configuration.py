"""Configuration, channels, plans and nodes in the admin: forms over services, secrets write-only, text inert."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from django.db import transaction
from django.urls import reverse
from django.utils.html import escape

from accounts.models import Role
from audit.models import AuditEntry
from audit.services import Target, record
from tenants import capacity, configuration, providers, secrets, services
from tenants.channels import CHANNELS
from tenants.models import Channel, Plan, Tenant
from tenants.states import RunKind, Status
from tests.factories import MemberFactory, NodeFactory, PlanFactory, UserFactory
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr

KEY = "sk-canary-4711-provider"
BOT = "12345:canary-of-a-bot"


@pytest.fixture
def boss(db, client):
    client.user = UserFactory(email="boss@example.test", is_superuser=True)
    client.force_login(client.user)
    return client


def url(tenant, name, *more):
    return reverse(f"admin:tenants_tenant_{name}", args=[tenant.pk, *more])


def told(answer):
    return [str(message) for message in answer.context["messages"]]


def errors(answer):
    return {name: list(words) for name, words in answer.context["form"].errors.items()}


def opened(tenant):
    return secrets.reveal_all(tenant, actor=OPERATOR, why="test")


def configure(client, tenant, **data):
    given = {"provider": "openai", "model": "gpt-4o", "base_url": "", "extra_config": "{}", **data}
    return client.post(url(tenant, "configuration"), given, follow=True)


# --- configuration -------------------------------------------------------------------------------------


def test_provider_and_key_are_stored_and_the_key_is_never_shown(world, boss):
    tenant = world.tenant(agent="zeroclaw")
    answer = configure(boss, tenant, provider_key=KEY)
    assert told(answer) == ["Configuration stored; it takes effect at the next start."]
    tenant = world.fresh(tenant)
    assert (tenant.config.provider_name, tenant.config.provider_model) == ("openai", "gpt-4o")
    assert opened(tenant).of_tenant["provider_key"].reveal() == KEY
    for page in (boss.get(url(tenant, "configuration")), boss.get(url(tenant, "change"))):
        assert KEY not in page.content.decode()
        assert "set just now" in page.content.decode()
    assert AuditEntry.objects.filter(action="config.update", actor_email="boss@example.test").exists()
    assert KEY not in str(list(AuditEntry.objects.values()))


def test_a_key_that_is_left_empty_stays_and_one_that_is_refused_is_not_sent_back(world, boss):
    tenant = world.tenant(agent="zeroclaw")
    configure(boss, tenant, provider_key=KEY)
    configure(boss, tenant, model="gpt-4o-mini", provider_key="")
    assert opened(tenant).of_tenant["provider_key"].reveal() == KEY
    answer = configure(boss, tenant, model="with space", provider_key="sk-another-canary")
    assert list(errors(answer)) == ["model"]
    assert "another-canary" not in answer.content.decode()


def test_a_key_can_be_removed_where_the_provider_needs_none(world, boss):
    tenant = world.tenant(agent="zeroclaw")
    configure(boss, tenant, provider_key=KEY)
    assert errors(configure(boss, tenant, remove_key="on")) == {"provider_key": ["OpenAI needs an API key."]}
    configure(boss, tenant, provider="", model="", remove_key="on")
    assert "provider_key" not in opened(tenant).of_tenant


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"provider_key": ""}, "provider_key", "needs an API key"),
        ({"provider_key": KEY, "base_url": "https://evil.example.test/v1"}, "base_url", "address of its own"),
        ({"provider": "custom", "provider_key": KEY, "base_url": "javascript:alert(1)"}, "base_url", "web address"),
        ({"provider": "nobody"}, "provider", "Select a valid choice"),
        ({"provider": "", "model": "", "extra_config": "[]"}, "extra_config", "object"),
        ({"provider": "", "model": "", "extra_config": '{"a": 1, "a": 2}'}, "extra_config", "not valid JSON"),
        ({"provider": "", "model": "", "extra_config": "{"}, "extra_config", "not valid JSON"),
        ({"provider": "", "model": "", "extra_config": '{"nothing_like_it": 1}'}, "__all__", "no such field"),
    ],
)
def test_what_is_refused_is_told_beside_its_field(world, boss, data, field, words):
    tenant = world.tenant(agent="zeroclaw")
    found = errors(configure(boss, tenant, **data))
    assert list(found) == [field]
    assert words in found[field][0]
    assert world.fresh(tenant).config.provider_name == ""


def test_saving_nothing_new_starts_no_run_and_a_change_starts_one(world, boss):
    tenant = world.tenant(deploy=True)
    before = tenant.runs.count()
    configure(boss, tenant, provider="", model="")
    assert tenant.runs.count() == before
    answer = configure(boss, tenant, provider="openai", provider_key=KEY)
    assert told(answer) == ["Configuration stored; it is being applied."]
    assert tenant.runs.order_by("-pk").first().kind == RunKind.RECONFIGURE
    answer = configure(boss, tenant, model="gpt-5")
    assert errors(answer) == {"__all__": ["A reconfigure is under way; wait for it or stop it."]}


# --- channels ------------------------------------------------------------------------------------------

VALUES = {"text": "value-1", "integer": "12", "list": "", "url": "https://x.example.test", "email": "a@example.test"}
FITTING = {
    "telegram": {"bot_token": BOT},
    "slack": {"bot_token": "xoxb-canary", "app_token": "xapp-canary"},
    "webhook": {"secret": "canary-canary-canary"},
    "whatsapp": {"phone_number_id": "1234567"},
    "email": {"imap_host": "i.example.test", "smtp_host": "s.example.test", "imap_port": "993", "smtp_port": "465"},
    "irc": {"server": "irc.example.test", "port": "6697", "nickname": "bot"},
    "matrix": {"user_id": "@bot:example.test"},
    "signal": {"account": "+4912345678"},
    "lark": {"region": "lark"},
    "qq": {"app_id": "12345"},
}


def filled(kind):
    values = {f.name: "canary-secret-value" if f.secret else VALUES.get(f.type, "") for f in CHANNELS[kind].fields}
    return {**values, **FITTING.get(kind, {})}


@pytest.mark.parametrize("kind", list(CHANNELS))
def test_every_channel_has_a_form_that_stores_it_and_shows_no_secret(world, boss, kind):
    tenant = world.tenant(agent="zeroclaw")
    given = filled(kind)
    answer = boss.post(url(tenant, "channel_add", kind), given, follow=True)
    supported = boss.get(url(tenant, "channel_kinds")).content.decode()
    if f"/channels/add/{kind}/" not in supported:
        assert "can't carry the channel" in str(errors(answer))
        return
    assert told(answer) == [f"{CHANNELS[kind].label} added; it takes effect at the next start."]
    channel = Channel.objects.get()
    stored = opened(tenant).of_channel(channel.pk)
    assert {name: value.reveal() for name, value in stored.items()} == {
        n: given[n] for n in CHANNELS[kind].secret_fields
    }
    page = boss.get(url(tenant, "channel", channel.public_id)).content.decode()
    assert "canary" not in page
    assert "canary" not in boss.get(url(tenant, "change")).content.decode()
    unchanged = {**given, **dict.fromkeys(CHANNELS[kind].secret_fields, ""), "enabled": "on"}
    audits = AuditEntry.objects.count()
    boss.post(url(tenant, "channel", channel.public_id), unchanged)
    assert AuditEntry.objects.count() == audits, "nothing was changed, so nothing is stored"


def test_a_channel_is_changed_field_by_field_and_removed_with_its_secrets(world, boss):
    tenant = world.tenant(agent="zeroclaw")
    boss.post(url(tenant, "channel_add", "telegram"), {"bot_token": BOT, "allow_from": "111\n222\n"})
    channel = Channel.objects.get()
    assert channel.config == {"allow_from": ["111", "222"]}
    address = url(tenant, "channel", channel.public_id)
    assert "111\n222</textarea>" in boss.get(address).content.decode()
    boss.post(address, {"bot_token": "", "allow_from": "333"})
    channel.refresh_from_db()
    assert (channel.config, channel.enabled) == ({"allow_from": ["333"]}, False)
    assert opened(tenant).of_channel(channel.pk)["bot_token"].reveal() == BOT
    boss.post(address, {"bot_token": "777:another", "allow_from": "", "enabled": "on"})
    channel.refresh_from_db()
    assert (channel.config["allow_from"], channel.enabled) == (None, True)
    assert opened(tenant).of_channel(channel.pk)["bot_token"].reveal() == "777:another"
    assert errors(boss.post(address, {"bot_token": "no token", "enabled": "on"})) == {
        "bot_token": ["This is not a valid value. From @BotFather."]
    }
    boss.get(url(tenant, "channel_delete", channel.public_id))
    assert Channel.objects.exists()
    boss.post(url(tenant, "channel_delete", channel.public_id))
    assert not Channel.objects.exists()
    assert opened(tenant).channels == {}


def test_the_plans_limit_on_channels_is_told(world, boss):
    PlanFactory(slug="small", max_channels=1)
    tenant = world.tenant(agent="zeroclaw", plan="small")
    boss.post(url(tenant, "channel_add", "telegram"), {"bot_token": BOT})
    answer = boss.post(url(tenant, "channel_add", "telegram"), {"bot_token": BOT})
    assert errors(answer) == {"__all__": ["The plan Pro allows 1 channel."]}


def test_a_channel_of_another_tenant_is_absent_here(world, boss):
    tenant, other = world.tenant("One"), world.tenant("Two", agent="zeroclaw")
    channel, _ = configuration.add_channel(
        actor=OPERATOR, tenant=other, kind="telegram", values={"bot_token": SecretStr(BOT)}
    )
    for name in ("channel", "channel_delete"):
        assert boss.get(url(tenant, name, channel.public_id)).status_code == 404
        assert boss.post(url(tenant, name, channel.public_id)).status_code == 404
    assert boss.get(url(tenant, "channel_add", "pigeon")).status_code == 404
    assert Channel.objects.exists()


# --- plans and nodes -----------------------------------------------------------------------------------

LIMITS = {
    "max_channels": 3,
    "max_members": 5,
    "max_messages_per_day": 100,
    "max_tokens_per_month": 1_000,
    "cpu_limit": Decimal("0.5"),
    "memory_limit_mb": 512,
    "pids_limit": 64,
    "disk_limit_mb": 1_024,
}


def test_plans_are_made_and_changed_with_an_audit_row(boss):
    boss.post("/admin/tenants/plan/add/", {"slug": "team", "name": "Team", **LIMITS})
    plan = Plan.objects.get(slug="team")
    assert (plan.memory_limit_mb, plan.cpu_limit) == (512, Decimal("0.50"))
    change = f"/admin/tenants/plan/{plan.pk}/change/"
    boss.post(change, {"slug": "other", "name": "Team", **LIMITS, "memory_limit_mb": 1_024})
    plan.refresh_from_db()
    assert (plan.slug, plan.memory_limit_mb) == ("team", 1_024)
    made, changed = AuditEntry.objects.filter(resource_type="plan").order_by("id")
    assert (made.action, changed.action, changed.actor_email) == ("plan.create", "plan.update", "boss@example.test")
    assert json.loads(changed.detail_json)["changed"] == {"memory_limit_mb": [512, 1_024]}


@pytest.mark.parametrize("limit", list(LIMITS))
@pytest.mark.parametrize("value", ["0", "-1", "nan", "", "99999999999999999999", "1e400"])
def test_g9_a_limit_that_makes_no_sense_is_refused(boss, limit, value):
    plan = PlanFactory()
    answer = boss.post(f"/admin/tenants/plan/{plan.pk}/change/", {"name": "Pro", **LIMITS, limit: value})
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [limit]
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pids_limit", 0),
        ("pids_limit", True),
        ("cpu_limit", Decimal("nan")),
        ("cpu_limit", Decimal("0.005")),
        ("cpu_limit", float("inf")),
        ("memory_limit_mb", "512"),
        ("memory_limit_mb", 1.5),
        ("unheard_of", 1),
    ],
)
def test_g9_the_service_refuses_it_too(db, name, value):
    with pytest.raises(InvalidField) as refused:
        capacity.update_plan(actor=OPERATOR, plan=PlanFactory(), limits={name: value})
    assert refused.value.details["field"] == name


def test_a_plan_needs_every_limit_and_a_slug_of_its_own(db):
    with pytest.raises(InvalidField):
        capacity.create_plan(actor=OPERATOR, slug="Team Plan", name="Team", limits=LIMITS)
    with pytest.raises(InvalidField) as refused:
        capacity.create_plan(actor=OPERATOR, slug="team", name="Team", limits={"pids_limit": 1})
    assert refused.value.details["field"] == "cpu_limit"


def test_only_operators_change_plans_and_nodes(owner):
    plan, node, actor = PlanFactory(), NodeFactory(), owner.as_actor()
    for call in (
        lambda: capacity.create_plan(actor=actor, slug="mine", name="Mine", limits=LIMITS),
        lambda: capacity.update_plan(actor=actor, plan=plan, name="Mine"),
        lambda: capacity.set_node_state(actor=actor, node=node, state="disabled"),
    ):
        with pytest.raises(Forbidden):
            call()


def test_of_a_node_the_state_can_be_changed_and_nothing_else(boss):
    node = NodeFactory()
    forged = {"state": "draining", "port_first": "1", "endpoint": "tcp://evil", "name": "x"}
    boss.post(f"/admin/tenants/node/{node.pk}/change/", forged)
    before = (node.port_first, node.endpoint, node.name)
    node.refresh_from_db()
    assert (node.state, node.port_first, node.endpoint, node.name) == ("draining", *before)
    entry = AuditEntry.objects.get(action="node.update")
    assert json.loads(entry.detail_json) == {"from": "active", "to": "draining"}
    assert boss.get("/admin/tenants/node/add/").status_code == 403
    with pytest.raises(InvalidField):
        capacity.set_node_state(actor=OPERATOR, node=node, state="on fire")


# --- K10 -----------------------------------------------------------------------------------------------

XSS = "<img src=x onerror=alert(1)>"
ATTR = '"><svg onload=alert(1)>'


def test_k10_whatever_somebody_wrote_is_shown_and_inert(world, boss):
    tenant = world.tenant("Plain", deploy=True)
    MemberFactory(tenant=tenant, role="owner", user__email="o@example.test", user__name=XSS)
    services.suspend(actor=Actor(label=XSS, unrestricted=True), tenant=tenant, note=ATTR)
    run = tenant.runs.order_by("-pk").first()
    run.steps.create(position=0, name=XSS, status="failed", error=XSS, started_at="2026-01-01T00:00:00Z")
    tenant.runs.filter(pk=run.pk).update(error=XSS, request_id=XSS)
    Tenant.objects.filter(pk=tenant.pk).update(
        name=XSS, slug=XSS[:30], detail=XSS, status=Status.ERROR, agent_kind=XSS[:20], routed=False
    )
    Plan.objects.update(name=XSS)
    tenant.config.__class__.objects.update(provider_name="custom", provider_model=XSS, base_url="javascript:alert(1)")
    tenant.config.__class__.objects.update(extra_config={XSS: ATTR})
    Channel.objects.create(tenant=tenant, channel_type="irc", config={"nickname": XSS, "channels": [ATTR]})
    Channel.objects.create(tenant=tenant, channel_type=XSS[:20])
    Role.objects.create(name="custom", label=XSS)
    with transaction.atomic():
        about = Target("tenant", str(tenant.public_id), XSS)
        record("tenant.stop", actor=Actor(label=XSS), target=about, tenant=str(tenant.public_id), detail={"x": XSS})
    world.agents()[0].output.append(f"{XSS} {ATTR}")
    entry = AuditEntry.objects.order_by("-id").first()
    channel = Channel.objects.get(channel_type="irc")
    pages = [url(tenant, "change"), url(tenant, "logs"), url(tenant, "configuration"), "/admin/"]
    pages += [url(tenant, "act", verb) for verb in ("stop", "suspend", "resize", "delete")]
    pages += [url(tenant, "channel", channel.public_id), "/admin/tenants/tenant/", "/admin/tenants/run/"]
    pages += [f"/admin/tenants/run/{run.pk}/change/", f"/admin/audit/auditentry/{entry.pk}/change/"]
    pages += ["/admin/audit/auditentry/", f"/admin/tenants/plan/{tenant.plan_id}/change/", "/admin/tenants/plan/"]
    assert f"{escape(XSS)} {escape(ATTR)}" in boss.get(url(tenant, "logs")).content.decode()
    for address in pages:
        page = boss.get(address).content.decode()
        assert "&lt;img src" in page or "\\u003Cimg" in page, address
        assert not re.search(r"<img src=x|<svg onload|href=\"javascript:", page), address
    for typed in (XSS, ATTR):
        page = boss.post(url(tenant, "act", "delete"), {"typed": typed}).content.decode()
        assert not re.search(r"<img src=x|<svg onload", page)
        page = boss.get("/admin/tenants/tenant/", {"q": typed, "status": typed, "reason": typed}).content.decode()
        assert not re.search(r"<img src=x|<svg onload", page)
    answer = boss.post("/admin/tenants/tenant/add/", {"name": XSS, "slug": ATTR})
    assert not re.search(r"<img src=x|<svg onload", answer.content.decode())
    answer = boss.post(url(tenant, "act", "deploy"), follow=True)
    assert "&lt;img src" in answer.content.decode()
    assert not re.search(r"<img src=x|<svg onload", answer.content.decode())


def test_h6_with_another_provider_or_address_the_old_key_goes_and_never_reaches_the_new_host(world):
    tenant = world.tenant()

    def update(**given):
        fresh = world.fresh(tenant)
        configuration.update(actor=OPERATOR, tenant=fresh, given=configuration.ConfigInput(**given))
        return key_and_host()

    def key_and_host():
        key = opened(tenant).of_tenant.get("provider_key")
        endpoint = providers.endpoint_for(world.fresh(tenant), key)
        return key and key.reveal(), endpoint.base_url, endpoint.api_key.reveal()

    openai, other = "https://api.openai.com/v1", "https://elsewhere.example.test/v1"
    assert update(provider="openai", model="gpt-4o", provider_key=SecretStr(KEY)) == (KEY, openai, KEY)
    assert update(model="gpt-4o-mini") == (KEY, openai, KEY), "the same host keeps its key"
    with pytest.raises(InvalidField) as refused:
        update(provider="custom", model="m", base_url=other)
    assert refused.value.details["field"] == "provider_key"
    assert update(provider="ollama", model="m", base_url=other) == (None, other, providers.NO_KEY.reveal())
    assert [value.reveal() for value in opened(tenant).hidden] == [KEY]
    assert update(provider="custom", model="m", base_url=other, provider_key=SecretStr(KEY)) == (KEY, other, KEY)
    with pytest.raises(InvalidField) as refused:
        update(base_url="https://a-third.example.test/v1")
    assert refused.value.details["field"] == "provider_key"
    assert key_and_host() == (KEY, other, KEY)


def test_a_channel_that_is_gone_already_is_not_found(world):
    tenant = world.tenant()
    channel, _ = configuration.add_channel(
        actor=OPERATOR, tenant=tenant, kind="telegram", values={"bot_token": BOT, "allow_from": ["1"]}
    )
    same = Channel.objects.get(pk=channel.pk)
    configuration.delete_channel(actor=OPERATOR, channel=channel)
    count = AuditEntry.objects.count()
    with pytest.raises(NotFound):
        configuration.update_channel(actor=OPERATOR, channel=same, values={}, enabled=False)
    with pytest.raises(NotFound):
        configuration.delete_channel(actor=OPERATOR, channel=same)
    assert AuditEntry.objects.count() == count


def test_who_may_not_change_plans_leaves_a_row(db):
    actor = UserFactory().as_actor()
    node, plan = NodeFactory(), PlanFactory()
    tries = [
        lambda: capacity.create_plan(actor=actor, slug="x", name="X", limits={}),
        lambda: capacity.update_plan(actor=actor, plan=plan, name="X"),
        lambda: capacity.set_node_state(actor=actor, node=node, state="disabled"),
    ]
    for number, attempt in enumerate(tries, 1):
        with pytest.raises(Forbidden):
            attempt()
        rows = AuditEntry.objects.filter(action="access.denied", outcome="denied", actor_email=actor.email)
        assert rows.count() == number
