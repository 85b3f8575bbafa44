"""Bad input at the services: refused by name, and nothing has changed. To a stranger nothing is told of the tenant."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tenants import configuration, routes, services
from tenants.configuration import ConfigInput
from tenants.models import AccessToken, AgentConfig, Channel, Event, Member, Run, Tenant, TenantSecret
from tests.factories import ChannelFactory, PlanFactory, UserFactory
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr

TABLES = (Tenant, AgentConfig, Channel, TenantSecret, Secret, Member, AccessToken, Run, Event, AuditEntry)


def everything():
    return {table: list(table.objects.order_by("pk").values()) for table in TABLES}


def refused(act, error=InvalidField):
    """The type of the refusal, and that it left no trace in any table."""
    before = everything()
    with pytest.raises(error) as raised:
        act()
    assert everything() == before
    return raised.value.type


# --- D: names that become part of an address --------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        pytest.param("acme\n", "invalid_slug", id="D1-newline"),
        pytest.param("acme ", "invalid_slug", id="D1-space"),
        pytest.param("*", "invalid_slug", id="D2-wildcard"),
        pytest.param("acme.evil.com", "invalid_slug", id="D2-two-labels"),
        pytest.param("127.0.0.1", "invalid_slug", id="D2-address"),
        pytest.param("a%2e", "invalid_slug", id="D2-percent"),
        pytest.param("{env.SECRET}", "invalid_slug", id="D3-placeholder"),
        pytest.param("admin", "reserved_slug", id="D4-reserved"),
        pytest.param("xn--80ak6aa92e", "invalid_slug", id="D4-punycode"),
        pytest.param("acme-", "invalid_slug", id="D4-hyphen"),
        pytest.param("a" * 31, "invalid_slug", id="D4-long"),
        pytest.param("", "invalid_slug", id="D4-empty"),
        pytest.param("Acme", "invalid_slug", id="D5-uppercase"),
        pytest.param("аcme", "invalid_slug", id="D5-homograph"),
    ],
)
def test_d1_d2_d3_d4_d5_a_hostile_slug_makes_no_tenant(world, slug, kind):
    PlanFactory(slug="pro")
    world.node()
    assert refused(lambda: world.tenant(slug=slug, deploy=True)) == kind
    assert not world.agents()


def test_d6_a_name_that_somebody_has_is_refused_and_there_is_no_other_way_to_a_host(world):
    first = world.tenant(slug="acme", deploy=True)
    assert refused(lambda: world.tenant("Thief", slug="acme", deploy=True), Conflict) == "slug_taken"
    assert [(route.tenant, route.slug) for route in routes.desired()] == [(str(first.public_id), "acme")]


def test_d8_a_display_name_of_one_line_is_kept_as_it_is_and_any_other_refused(world):
    name = "\"'\\</script>{env.SECRET}"
    assert world.tenant(name, slug="acme").name == name
    for bad in ("a\0b", "a\nb", "a\ud800b", "a\u202eb"):
        assert refused(lambda bad=bad: world.tenant(bad)) == "invalid_field"


def test_d12_no_rename_moves_a_host(world):
    """Slugs don't change: another name leaves the address where it is, and nobody else gets it."""
    tenant = world.tenant(slug="acme", deploy=True)
    before = [(route.tenant, route.slug, route.port) for route in routes.desired()]
    run = services.rename(actor=OPERATOR, tenant=tenant, name="Other Name")
    if run:
        world.drive(run)
    assert (world.fresh(tenant).name, world.fresh(tenant).slug) == ("Other Name", "acme")
    assert [(route.tenant, route.slug, route.port) for route in routes.desired()] == before
    with pytest.raises(TypeError):
        services.rename(actor=OPERATOR, tenant=tenant, name="X", slug="moved")
    assert world.tenant("Other Name", slug="other-name").slug == "other-name"


# --- E: what an agent is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(ConfigInput(provider="custom", base_url="https://m.test/v1", model="a\0b"), id="E2-NUL"),
        pytest.param(ConfigInput(channels=(("webhook", {"secret": SecretStr("a" * 2**20)}),)), id="E2-megabyte"),
        pytest.param(ConfigInput(extra={"__proto__": {}}), id="E4-unknown-key"),
        pytest.param(ConfigInput(extra={"stream_delay_ms": float("nan")}), id="E4-no-number"),
        pytest.param(ConfigInput(extra={"env": {"LD_PRELOAD": "x"}}), id="E5-environment"),
        pytest.param(ConfigInput(channels=(("webhook", {"bind": "0.0.0.0"}),)), id="E6-address"),
    ],
)
def test_e2_e4_e5_e6_a_configuration_that_is_refused_makes_and_changes_nothing(world, given):
    tenant = world.tenant(deploy=True)
    refused(lambda: world.tenant("Other", config=given, deploy=True))
    refused(lambda: apply(tenant, given))
    assert world.fresh(tenant).status == "running"


def apply(tenant, given):
    if given.channels:
        ((kind, values),) = given.channels
        return configuration.add_channel(actor=OPERATOR, tenant=tenant, kind=kind, values=values)
    return configuration.update(actor=OPERATOR, tenant=tenant, given=given)


# --- who may not know ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda actor, tenant: services.resize(actor=actor, tenant=tenant, plan="tiny"),
        lambda actor, tenant: configuration.update(actor=actor, tenant=tenant, given=ConfigInput(base_url="https://x")),
        lambda actor, tenant: configuration.update(actor=actor, tenant=tenant, given=ConfigInput(extra={"x": 1})),
        lambda actor, tenant: configuration.add_channel(actor=actor, tenant=tenant, kind="webhook", values={"x": 1}),
        lambda actor, tenant: configuration.update_channel(
            actor=actor, channel=ChannelFactory(tenant=tenant), values={"x": 1}
        ),
    ],
    ids=["resize", "provider", "extra", "add_channel", "update_channel"],
)
def test_a_strangers_bad_input_tells_no_more_than_a_good_one(world, act):
    PlanFactory(slug="tiny", name="Tiny", memory_limit_mb=16)
    tenant = world.tenant(config=ConfigInput(provider="openai", model="gpt-4o", provider_key=SecretStr("sk-canary-1")))
    with pytest.raises(NotFound) as raised:
        act(UserFactory().as_actor(), tenant)
    assert raised.value.message == NotFound().message
    assert AuditEntry.objects.order_by("-id").first().action == "access.denied"


# --- agents that can't start without a model -----------------------------------------------------------------


@pytest.mark.parametrize("agent", ["nanobot", "zeroclaw"])
def test_an_agent_that_needs_a_model_is_not_deployed_without_one(world, agent):
    PlanFactory(slug="pro")
    world.node()
    assert refused(lambda: world.tenant(agent=agent, deploy=True)) == "model_required"
    draft = world.tenant(agent=agent)
    for act in (services.deploy, services.start):
        assert refused(lambda act=act: act(actor=OPERATOR, tenant=draft)) == "model_required"
