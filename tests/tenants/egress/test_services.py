"""Changing what an agent may connect to: who may, how wide, what is audited, and what the proxy then lets through."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tenants.egress import policy
from tenants.egress.services import set_egress
from tenants.models import Tenant
from tenants.provisioning.spec import build_spec
from tenants.states import Egress, RunKind
from tests.factories import AgentConfigFactory, MemberFactory, NodeFactory, TenantFactory
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, Misconfigured, NotFound


def actor(user):
    return Actor(label=user.email, user_id=user.pk, email=user.email)


@pytest.fixture
def tenant(db):
    return AgentConfigFactory(tenant__node__name="engine", tenant__node__runtime="docker").tenant


def fresh(tenant):
    return Tenant.objects.select_related("config", "plan", "node").get(pk=tenant.pk)


def test_a_mode_and_a_list_are_stored_and_audited(tenant):
    assert (
        set_egress(actor=OPERATOR, tenant=tenant, mode="allowlist", hosts=["API.example.com", "*.cdn.example"]) is None
    )
    stored = fresh(tenant)
    assert policy.mode_of(stored) == Egress.ALLOWLIST
    assert stored.config.egress_hosts == ["api.example.com", "*.cdn.example"]
    row = AuditEntry.objects.get(action="egress.update")
    assert "api.example.com" in row.detail_json
    set_egress(actor=OPERATOR, tenant=stored, mode="")
    assert policy.mode_of(fresh(tenant)) == Egress.OPEN
    assert fresh(tenant).config.egress_hosts == ["api.example.com", "*.cdn.example"], "what is not given stays"


@pytest.mark.parametrize("given", [{"mode": "wide"}, {"hosts": ["nonsense"]}, {"mode": "gateway", "hosts": ["*.com"]}])
def test_what_is_no_mode_or_host_changes_nothing(tenant, given):
    with pytest.raises(InvalidField):
        set_egress(actor=OPERATOR, tenant=tenant, **given)
    assert (fresh(tenant).config.egress, fresh(tenant).config.egress_hosts) == ("", [])


@pytest.mark.parametrize(
    ("default", "mode", "allowed"),
    [
        ("open", "gateway", True),
        ("open", "open", True),
        ("allowlist", "gateway", True),
        ("allowlist", "allowlist", True),
        ("allowlist", "open", False),
        ("gateway", "allowlist", False),
        ("gateway", "", True),
    ],
)
def test_an_owner_stays_within_the_plans_default(tenant, owner, settings, default, mode, allowed):
    settings.EGRESS_DEFAULT = {"": default}
    if allowed:
        set_egress(actor=actor(owner), tenant=tenant, mode=mode)
        return
    with pytest.raises(Forbidden) as refused:
        set_egress(actor=actor(owner), tenant=tenant, mode=mode)
    assert refused.value.type == "egress_limit"
    assert AuditEntry.objects.filter(action="access.denied").count() == 1
    set_egress(actor=OPERATOR, tenant=tenant, mode=mode)
    assert policy.mode_of(fresh(tenant)) == mode


@pytest.mark.parametrize("role", ["viewer", "contributor", "manager"])
def test_others_of_the_tenant_may_not_and_strangers_see_nothing(tenant, stranger, role):
    member = MemberFactory(tenant=tenant, role=role).user
    with pytest.raises(Forbidden):
        set_egress(actor=actor(member), tenant=tenant, mode="gateway")
    with pytest.raises(NotFound):
        set_egress(actor=actor(stranger), tenant=tenant, mode="open")
    assert fresh(tenant).config.egress == ""


def test_a_running_tenant_is_changed_by_a_run_and_only_by_one(world):
    tenant = world.tenant(deploy=True)
    before = tenant.fingerprint
    run = set_egress(actor=OPERATOR, tenant=tenant, mode="gateway")
    assert run.kind == RunKind.RECONFIGURE
    with pytest.raises(Conflict):
        set_egress(actor=OPERATOR, tenant=tenant, mode="open")
    assert world.drive(run).status == "succeeded"
    changed = world.fresh(tenant)
    assert changed.fingerprint != before
    assert [agent.spec.egress for agent in world.agents()] == ["gateway"]


def test_a_change_of_the_list_leaves_the_agent_running(world):
    tenant = world.tenant(deploy=True)
    run = set_egress(actor=OPERATOR, tenant=tenant, hosts=["api.example.com"])
    world.drive(run)
    assert world.fresh(tenant).handle == tenant.handle


def test_the_default_may_differ_by_plan(settings, tenant):
    settings.EGRESS_DEFAULT = {"": "allowlist", "free": "gateway"}
    assert (policy.default_of("free"), policy.default_of("pro")) == (Egress.GATEWAY, Egress.ALLOWLIST)


def model(tenant, provider="custom", base_url="http://model.example.com:8000/v1", **more):
    for name, value in {"provider_name": provider, "base_url": base_url, **more}.items():
        setattr(tenant.config, name, value)
    tenant.config.save()


def test_the_tenants_own_model_passes_in_both_proxied_modes(tenant):
    model(tenant, egress="gateway", egress_hosts=["api.example.com"])
    found = policy.policy_of(fresh(tenant))
    assert [str(target) for target in found.targets] == ["model.example.com:8000"]
    model(tenant, "openai", "", egress="allowlist")
    found = policy.policy_of(fresh(tenant))
    assert found.allows("api.openai.com", 443)
    assert found.allows("api.example.com", 443)
    assert not found.allows("api.openai.com", 80)
    assert not found.allows("model.example.com", 8000), "the old model's address is no longer its own"


def test_the_slot_and_the_network_together_tell_whose_an_address_is(tenant):
    model(tenant, egress="gateway")
    Tenant.objects.filter(pk=tenant.pk).update(slot=7)
    assert policy.at(Egress.GATEWAY, 7).slug == tenant.slug
    assert policy.at(Egress.ALLOWLIST, 7) is None
    assert policy.at(Egress.GATEWAY, 8) is None
    other = NodeFactory(name="other", runtime="docker")
    TenantFactory(node=other, slot=7)
    assert policy.at(Egress.GATEWAY, 7) is None, "two have the slot: nobody is guessed"
    Tenant.objects.filter(node=other).update(status="deleted")
    assert policy.at(Egress.GATEWAY, 7).slug == tenant.slug


def test_an_agent_behind_the_proxy_is_told_of_it(tenant, settings):
    settings.EGRESS_PROXY_PORT = 3_999
    Tenant.objects.filter(pk=tenant.pk).update(slot=1, port=21_001, uid=200_001)
    spec = build_spec(fresh(tenant), run="r", epoch=1, image="sha256:x", config_hash="c")
    assert "HTTPS_PROXY" not in dict(spec.env)
    model(tenant, egress="gateway")
    behind = build_spec(fresh(tenant), run="r", epoch=1, image="sha256:x", config_hash="c")
    assert dict(behind.env)["HTTPS_PROXY"] == "http://gateway.internal:3999"
    assert behind.fingerprint() != spec.fingerprint()


@pytest.mark.parametrize("mode", ["gateway", "allowlist"])
def test_a_process_is_refused_a_mode_that_nothing_enforces(tenant, settings, mode):
    settings.ALLOW_UNENFORCED_EGRESS = False
    tenant.node.runtime = "process"
    tenant.node.save()
    with pytest.raises(Misconfigured) as refused:
        set_egress(actor=OPERATOR, tenant=tenant, mode=mode)
    assert refused.value.type == "egress_unenforced"
    assert fresh(tenant).config.egress == ""
    set_egress(actor=OPERATOR, tenant=tenant, mode="open")
