"""Access tokens as people make and revoke them: by the service, the commands and the admin."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from tenants import access_tokens, services, tokens
from tenants.models import AccessToken, Event, TenantSecret
from tenants.states import RunKind
from tests.commands import manage
from tests.factories import AgentConfigFactory, MemberFactory, TenantFactory, UserFactory
from vault.models import Secret
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound


def issue(tenant, name="laptop", **more):
    return access_tokens.issue(actor=OPERATOR, tenant=tenant, name=name, **more)


def trail(tenant):
    rows = AuditEntry.objects.filter(tenant_id=str(tenant.public_id)).order_by("id")
    return list(rows.values_list("action", flat=True))


def test_a_token_is_issued_audited_found_and_revoked(tenant):
    token, value = issue(tenant)
    assert tokens.lookup(value.reveal()) == token
    access_tokens.revoke(actor=OPERATOR, token=token)
    access_tokens.revoke(actor=OPERATOR, token=token)
    assert tokens.lookup(value.reveal()) is None
    assert trail(tenant) == ["token.create", "token.revoke"]
    events = Event.objects.filter(tenant=tenant).order_by("pk")
    assert list(events.values_list("type", flat=True)) == ["token.create", "token.revoke"]
    assert events[0].data == {"id": str(token.public_id), "name": "laptop", "prefix": token.prefix}
    written = str(list(AuditEntry.objects.values())) + str(list(events.values()))
    assert value.reveal() not in written


@pytest.mark.parametrize(("role", "allowed"), [("contributor", False), ("manager", True)])
def test_c_only_who_manages_tokens_makes_and_revokes_them(tenant, role, allowed):
    actor = MemberFactory(tenant=tenant, role=role).user.as_actor()
    token, _ = issue(tenant)
    if allowed:
        access_tokens.issue(actor=actor, tenant=tenant, name="mine")
        access_tokens.revoke(actor=actor, token=token)
        return
    with pytest.raises(Forbidden):
        access_tokens.issue(actor=actor, tenant=tenant, name="mine")
    with pytest.raises(Forbidden):
        access_tokens.revoke(actor=actor, token=token)
    assert AccessToken.objects.get().revoked_at is None
    assert trail(tenant)[1:] == ["access.denied", "access.denied"]


def test_a_stranger_can_not_revoke(tenant, stranger):
    token, _ = issue(tenant)
    with pytest.raises(NotFound):
        access_tokens.revoke(actor=stranger.as_actor(), token=token)
    assert tokens.live().get() == token


def test_a_tenant_has_at_most_fifty_live_tokens(tenant):
    gone = clock.now() - timedelta(days=1)
    made = [tokens.mint(tenant, "x", created_by="")[0] for _ in range(access_tokens.MAX_LIVE)]
    tokens.mint(tenant, "expired", created_by="", expires_at=gone)
    tokens.mint(TenantFactory(), "of another", created_by="")
    with pytest.raises(Forbidden) as refused:
        issue(tenant)
    assert (refused.value.type, refused.value.details["limit"]) == ("plan_limit", 50)
    access_tokens.revoke(actor=OPERATOR, token=made[0])
    issue(tenant)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81, "a\u202eb"])
def test_d1_a_name_is_one_clean_line(tenant, name):
    with pytest.raises(InvalidField) as refused:
        issue(tenant, name)
    assert refused.value.details["field"] == "name"


def test_a_token_that_is_over_already_or_of_a_tenant_that_is_going_is_not_made(tenant):
    with pytest.raises(InvalidField):
        issue(tenant, expires_at=clock.now())
    tenant.desired = "deleted"
    tenant.save()
    with pytest.raises(Conflict) as refused:
        issue(tenant)
    assert refused.value.type == "tenant_deleted"
    assert not AccessToken.objects.exists()


def test_a_token_is_named_by_its_prefix_or_id_within_its_tenant(tenant):
    token, value = issue(tenant)
    for name in (token.prefix, str(token.public_id)):
        assert access_tokens.find(tenant, name) == token
    for name in (value.reveal(), token.prefix[:-1], token.token_hash, ""):
        with pytest.raises(NotFound):
            access_tokens.find(tenant, name)
    with pytest.raises(NotFound):
        access_tokens.find(TenantFactory(), token.prefix)
    other, _ = issue(tenant)
    AccessToken.objects.filter(pk=other.pk).update(prefix=token.prefix)
    with pytest.raises(Conflict):
        access_tokens.find(tenant, token.prefix)


# --- rotation ------------------------------------------------------------------------------------------


def test_rotating_leaves_one_token_that_works_and_none_of_the_old(world):
    created = world.tenant(deploy=True)
    old = created.access_tokens.get()
    rotated = services.rotate_secrets(actor=OPERATOR, tenant=created)
    assert rotated.run.kind == RunKind.ROTATE_SECRETS
    fresh = tokens.lookup(rotated.access_token.reveal())
    assert (fresh.tenant, fresh.name) == (created, "rotated")
    assert list(tokens.live()) == [fresh]
    old.refresh_from_db()
    assert old.revoked_at
    assert trail(created)[-3:] == ["token.revoke", "token.create", "secret.rotate"]


def test_rotating_a_stopped_tenant_leaves_no_orphan_in_the_vault(world):
    tenant = world.tenant(deploy=True)
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    assert Secret.objects.count() == TenantSecret.objects.count() == 1
    rotated = services.rotate_secrets(actor=OPERATOR, tenant=tenant)
    assert rotated.run is None
    assert Secret.objects.count() == TenantSecret.objects.count() == 0
    assert "secret.delete" in list(AuditEntry.objects.values_list("action", flat=True))
    world.drive(services.start(actor=OPERATOR, tenant=tenant))
    assert Secret.objects.count() == 1


def test_rotating_that_is_refused_leaves_the_tokens(world):
    tenant = world.tenant()
    services.deploy(actor=OPERATOR, tenant=tenant)
    with pytest.raises(Conflict):
        services.rotate_secrets(actor=OPERATOR, tenant=tenant)
    assert tokens.live().get().name == "first"


# --- the commands --------------------------------------------------------------------------------------


def test_the_command_makes_lists_and_revokes(world):
    tenant = world.tenant()
    done = manage("tokens", "acme", "--issue", "laptop", "--expires-days", "30")
    value = done.out.split()[-1]
    token = tokens.lookup(value)
    assert (done.code, done.out) == (0, f"access token, shown once: {value}\n")
    assert timedelta(days=29) < token.expires_at - clock.now() <= timedelta(days=30)
    listed = manage("tokens", "acme").out.splitlines()
    assert [line.split()[0] for line in listed] == [t.prefix for t in tenant.access_tokens.order_by("pk")]
    assert listed[1].endswith(f"last used never  expires {token.expires_at:%Y-%m-%d}  laptop")
    assert value not in "".join(listed)
    assert manage("tokens", "acme", "--revoke", token.prefix).out.startswith(f"acme: token {token.prefix}…")
    assert tokens.lookup(value) is None
    assert [t["name"] for t in manage("tokens", "acme", "--json").json["tokens"]] == ["first"]


def test_the_command_as_json(world):
    world.tenant()
    made = manage("tokens", "acme", "--issue", "laptop", "--json").json
    assert tokens.lookup(made["access_token"]).name == made["name"] == "laptop"
    assert "access_token" not in json.dumps(manage("tokens", "acme", "--json").json)
    assert manage("tokens", "acme", "--revoke", made["id"], "--json").json["revoked"]
    refused = manage("tokens", "acme", "--revoke", "zct_nothing", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "not_found")


@pytest.mark.parametrize("argv", [("--expires-days", "3"), ("--issue", "x", "--expires-days", "0")])
def test_a_lifetime_without_a_token_or_without_a_day_is_wrong_usage(world, argv):
    world.tenant()
    assert manage("tokens", "acme", *argv).code == 2
    assert AccessToken.objects.count() == 1


def test_a_tenant_without_tokens_says_how_to_make_one(world):
    tokens.revoke_all(world.tenant())
    assert manage("tokens", "acme").out == "acme has no access token; make one with --issue NAME\n"


def test_rotate_secrets_asks_and_prints_the_new_token_once(world, monkeypatch):
    tenant = world.tenant(deploy=True)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert manage("rotate_secrets", "acme").code == 2
    assert tokens.live().get().name == "first"
    done = manage("rotate_secrets", "acme", "--yes")
    assert done.code == 0
    value = done.out.splitlines()[0].split()[-1]
    assert tokens.lookup(value).name == "rotated"
    assert done.out.count(value) == 1
    world.drive(services.stop(actor=OPERATOR, tenant=tenant))
    told = manage("rotate_secrets", "acme", "--yes", "--json").json
    assert (told["run"], tokens.lookup(told["access_token"]).name) == (None, "rotated")
    assert "takes effect at the next start" in manage("rotate_secrets", "acme", "--yes").out


# --- the admin -----------------------------------------------------------------------------------------


@pytest.fixture
def boss(db, client):
    client.force_login(UserFactory(email="boss@example.test", is_superuser=True))
    return client


def url(tenant, name, *more):
    return reverse(f"admin:tenants_tenant_{name}", args=[tenant.pk, *more])


def test_the_page_makes_a_token_shows_it_once_and_revokes_it(tenant, boss):
    AgentConfigFactory(tenant=tenant)
    page = boss.get(url(tenant, "change"))
    form = {"name": "<b>laptop</b>", "days": "", "key": page.context["token_key"]}
    made = boss.post(url(tenant, "token_issue"), form)
    token = AccessToken.objects.get()
    value = made.context["token"]
    assert tokens.lookup(value) == token
    assert made.content.decode().count(value) == 1
    assert made["Cache-Control"].startswith("no-store, private")
    again = boss.post(url(tenant, "token_issue"), form, follow=True)
    assert "it is not shown again" in str(next(iter(again.context["messages"])))
    assert AccessToken.objects.count() == 1
    page = boss.get(url(tenant, "change")).content.decode()
    assert token.prefix in page
    assert value not in page
    assert "<b>laptop" not in page
    assert boss.get(url(tenant, "token_revoke", token.public_id)).status_code == 405
    boss.post(url(tenant, "token_revoke", token.public_id))
    assert tokens.lookup(value) is None
    assert trail(tenant) == ["token.create", "token.revoke"]
    assert AuditEntry.objects.order_by("-id").first().actor_email == "boss@example.test"


@pytest.mark.parametrize("form", [{"name": ""}, {"name": "x", "days": "0"}, {"name": "x", "days": "many"}])
def test_a_wrong_form_is_told_and_makes_nothing(tenant, boss, form):
    AgentConfigFactory(tenant=tenant)
    answer = boss.post(url(tenant, "token_issue"), {"key": "k", **form}, follow=True)
    assert list(answer.context["messages"])
    assert not AccessToken.objects.exists()


def test_f_the_token_of_another_tenant_is_404(tenant, boss):
    token, _ = issue(TenantFactory())
    assert boss.post(url(tenant, "token_revoke", token.public_id)).status_code == 404
    assert tokens.live().get() == token
