"""Changing what an agent may connect to: who may, how wide, what is audited, and what the proxy then lets through."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tenants import configuration
from tenants.configuration import ConfigInput
from tenants.egress import policy
from tenants.egress.services import set_egress
from tenants.models import Tenant
from tenants.preview import preview
from tenants.provisioning.spec import build_spec
from tenants.rollback import rollback
from tenants.states import Egress, RunKind
from tests.factories import AgentConfigFactory, MemberFactory, NodeFactory, TenantFactory
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound


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
    with pytest.raises(Conflict) as refused:
        set_egress(actor=OPERATOR, tenant=tenant, mode=mode)
    assert refused.value.type == "egress_unenforced"
    assert fresh(tenant).config.egress == ""
    set_egress(actor=OPERATOR, tenant=tenant, mode="open")


# --- as a part of the configuration --------------------------------------------------------------------


def change(tenant, who, **given):
    return configuration.update(actor=who, tenant=fresh(tenant), given=ConfigInput(**given))


def reach(tenant):
    config = fresh(tenant).config
    return config.egress, config.egress_hosts


def test_it_changes_with_the_configuration_in_one_act_with_a_row_of_its_own_and_a_revision(tenant):
    change(tenant, OPERATOR, extra={"metrics": "none"}, egress="allowlist", egress_hosts=("API.example.com",))
    assert reach(tenant) == ("allowlist", ["api.example.com"])
    row = AuditEntry.objects.get(action="egress.update")
    assert '"mode":"allowlist"' in row.detail_json.replace(" ", "")
    assert AuditEntry.objects.filter(action="config.update").count() == 1
    assert tenant.revisions.order_by("-number").first().snapshot["egress_hosts"] == ["api.example.com"]
    set_egress(actor=OPERATOR, tenant=fresh(tenant), mode="gateway")
    assert tenant.revisions.order_by("-number").first().snapshot["egress"] == "gateway"


def test_a_manager_changes_the_rest_and_may_give_back_what_is_there(tenant):
    manager = actor(MemberFactory(tenant=tenant, role="manager").user)
    set_egress(actor=OPERATOR, tenant=tenant, mode="gateway", hosts=["api.example.com"])
    change(tenant, manager, extra={"metrics": "none"}, egress="gateway", egress_hosts=("api.example.com",))
    assert fresh(tenant).config.extra_config == {"metrics": "none"}
    for given in ({"egress": ""}, {"egress": "allowlist"}, {"egress_hosts": ()}):
        with pytest.raises(Forbidden):
            change(tenant, manager, extra={}, **given)
        with pytest.raises(Forbidden):
            preview(actor=manager, tenant=fresh(tenant), given=ConfigInput(**given))
    assert reach(tenant) == ("gateway", ["api.example.com"])
    assert fresh(tenant).config.extra_config == {"metrics": "none"}, "refused as a whole"


def test_the_whole_configuration_given_without_it_leaves_it_as_it_is(tenant):
    set_egress(actor=OPERATOR, tenant=tenant, mode="gateway", hosts=["api.example.com"])
    configuration.update(actor=OPERATOR, tenant=fresh(tenant), given=ConfigInput(extra={}).complete())
    assert reach(tenant) == ("gateway", ["api.example.com"])


def test_a_rollback_brings_it_back_for_whoever_may_and_is_refused_to_others(tenant, owner, settings):
    settings.EGRESS_DEFAULT = {"": "allowlist"}
    manager = actor(MemberFactory(tenant=tenant, role="manager").user)
    change(tenant, OPERATOR, egress="open")
    change(tenant, OPERATOR, egress="gateway")
    wide = tenant.revisions.get(number=2)
    assert wide.snapshot["egress"] == "open"
    for who, kind in ((manager, "forbidden"), (actor(owner), "egress_limit")):
        with pytest.raises(Forbidden) as refused:
            rollback(actor=who, tenant=fresh(tenant), number=2)
        assert refused.value.type == kind
    assert reach(tenant)[0] == "gateway"
    rollback(actor=OPERATOR, tenant=fresh(tenant), number=2)
    assert reach(tenant)[0] == "open"
    assert AuditEntry.objects.filter(action="egress.update").count() == 3


def test_a_revision_of_before_it_was_kept_leaves_it_as_it_is(tenant):
    change(tenant, OPERATOR, extra={"metrics": "none"})
    old = tenant.revisions.get(number=1)
    old.snapshot = {name: value for name, value in old.snapshot.items() if not name.startswith("egress")}
    old.save()
    set_egress(actor=OPERATOR, tenant=fresh(tenant), mode="gateway")
    rollback(actor=OPERATOR, tenant=fresh(tenant), number=1)
    assert reach(tenant)[0] == "gateway"
    assert fresh(tenant).config.extra_config == {}


def test_a_preview_tells_what_it_would_reach_and_whether_the_agent_would_be_moved(world):
    tenant = world.tenant(deploy=True)
    seen = preview(actor=OPERATOR, tenant=tenant, given=ConfigInput(egress="gateway", egress_hosts=("a.example.com",)))
    assert (seen.files, seen.restart) == ((), True)
    assert "-mode: open\n+mode: gateway\n+host: a.example.com\n" in seen.egress
    for given in (ConfigInput(egress="open"), ConfigInput(egress_hosts=("a.example.com",)), ConfigInput()):
        assert not preview(actor=OPERATOR, tenant=tenant, given=given).restart, "it stays in its network"
    assert preview(actor=OPERATOR, tenant=tenant, given=ConfigInput()).egress == ""
    assert world.fresh(tenant).config.egress == ""
