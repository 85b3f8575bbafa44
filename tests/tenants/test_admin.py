"""The admin's pages of tenants: who gets in, what a list costs, what an act does, what is never shown."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import AuditEntry
from tenants import services
from tenants.models import AccessToken, AgentConfig, Channel, Hold, Member, Node, Plan, Run, Tenant
from tenants.states import Desired, RunKind, Status
from tests.factories import AgentConfigFactory, MemberFactory, PlanFactory, TenantFactory, UserFactory
from zcplatform.lib.actors import OPERATOR

LIST = "/admin/tenants/tenant/"
ADD = f"{LIST}add/"


@pytest.fixture
def boss(db, client):
    client.user = UserFactory(email="boss@example.test", is_superuser=True)
    client.force_login(client.user)
    return client


def url(tenant, name, *more):
    return reverse(f"admin:tenants_tenant_{name}", args=[tenant.pk, *more])


def told(answer):
    """The messages of the page that a POST leads to."""
    return [str(message) for message in answer.context["messages"]]


def act(client, tenant, verb, **data):
    return client.post(url(tenant, "act", verb), data, follow=True)


def bulk(client, tenants, verb, **data):
    data |= {"action": f"bulk_{verb}", "_selected_action": [t.pk for t in tenants]}
    return client.post(LIST, data, follow=True)


def audited(action):
    return AuditEntry.objects.filter(action=action).order_by("-id").first()


# --- who gets in ---------------------------------------------------------------------------------------


@pytest.fixture
def addresses(world):
    tenant = world.tenant(deploy=True)
    names = ["change", "logs", "configuration", "channel_kinds"]
    pages = [url(tenant, name) for name in names]
    pages += [url(tenant, "act", verb) for verb in ("deploy", "stop", "suspend", "resize", "delete", "reactivate")]
    pages += [url(tenant, "channel_add", "telegram"), LIST, ADD, "/admin/", "/admin/tenants/run/"]
    pages += [f"/admin/tenants/run/{tenant.runs.get().pk}/change/", "/admin/tenants/plan/", "/admin/tenants/plan/add/"]
    pages += [f"/admin/tenants/plan/{tenant.plan_id}/change/", "/admin/tenants/node/", "/admin/audit/auditentry/"]
    return [*pages, f"/admin/tenants/node/{tenant.node_id}/change/"]


def test_only_an_active_super_admin_sees_any_page(addresses, client, super_admin):
    for address in addresses:
        assert Client().get(address).status_code == 302, address
    client.force_login(MemberFactory(tenant=Tenant.objects.get(), role="owner").user)
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 302, address
        assert answer["Location"].startswith("/admin/login/"), address
        assert client.get(answer["Location"]).status_code == 403
    client.force_login(super_admin)
    for address in addresses:
        assert client.get(address).status_code == 200, address
    type(super_admin).objects.filter(pk=super_admin.pk).update(is_active=False)
    assert client.get(LIST).status_code == 302


def test_a_role_that_is_taken_away_ends_the_session_s_power_at_once(world, boss):
    tenant = world.tenant(deploy=True)
    type(boss.user).objects.filter(pk=boss.user.pk).update(is_superuser=False)
    boss.post(url(tenant, "act", "stop"))
    assert world.fresh(tenant).desired == Desired.RUNNING


def test_the_queue_s_own_admin_is_shut(boss):
    assert boss.get("/admin/django_q/schedule/add/").status_code == 404


def test_pages_work_under_the_policy(addresses, boss):
    for address in addresses:
        answer = boss.get(address)
        page = answer.content.decode()
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)(?![^>]*application/json)", page), address
        assert "no-store" in answer["Cache-Control"]


def rows():
    """Every row that an act could change; the audit tells of reading too, so it may grow."""
    return {
        model: list(model.objects.order_by("pk").values())
        for model in (Tenant, Run, Hold, Member, AccessToken, AgentConfig, Channel, Plan, Node)
    }


def test_k9_no_get_changes_anything(addresses, world, boss):
    tenant = Tenant.objects.get()
    member = MemberFactory(tenant=tenant)
    only_post = [url(tenant, "member_set"), url(tenant, "member_remove", member.public_id)]
    before = rows()
    for address in [*addresses, *only_post]:
        assert boss.get(address).status_code == (405 if address in only_post else 200), address
    assert rows() == before


def test_k5_a_form_without_its_token_is_refused(world, boss):
    tenant = world.tenant(deploy=True)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(boss.user)
    before = rows()
    for address in [
        *(url(tenant, "act", verb) for verb in ("stop", "delete", "deploy")),
        url(tenant, "configuration"),
        url(tenant, "member_set"),
        ADD,
        LIST,
    ]:
        answer = strict.post(address, {"typed": tenant.slug, "action": "bulk_stop", "_selected_action": tenant.pk})
        assert answer.status_code == 403, address
    assert rows() == before
    page = strict.get(url(tenant, "act", "stop")).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    assert strict.post(url(tenant, "act", "stop"), {"csrfmiddlewaretoken": token}).status_code == 302


# --- the list ------------------------------------------------------------------------------------------


def fleet(count):
    PlanFactory()
    for _ in range(count):
        tenant = TenantFactory()
        AgentConfigFactory(tenant=tenant)
        MemberFactory.create_batch(2, tenant=tenant)


def test_the_list_costs_the_same_with_fifty_tenants_as_with_five(boss):
    fleet(5)
    boss.get(LIST)
    with CaptureQueriesContext(connection) as five:
        boss.get(LIST)
    fleet(45)
    with CaptureQueriesContext(connection) as fifty:
        page = boss.get(LIST).content.decode()
    assert page.count('class="action-select"') == 50
    assert len(fifty) == len(five) == 8, [q["sql"] for q in fifty]


def test_the_list_says_status_and_reason_and_counts_members(world, boss):
    tenant = world.tenant(deploy=True)
    MemberFactory.create_batch(3, tenant=tenant)
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.ERROR, reason="oom_killed")
    page = boss.get(LIST).content.decode()
    assert '<span class="pill pill-error">error</span>' in page
    assert "the agent ran out of memory" in page
    assert '<td class="field-people">3</td>' in page
    assert f'<td class="field-port">{tenant.port}</td>' in page


def test_the_list_filters_searches_and_hides_the_deleted(boss):
    PlanFactory()
    first, second, gone = TenantFactory(slug="first"), TenantFactory(slug="second"), TenantFactory(slug="gone")
    Tenant.objects.filter(pk=second.pk).update(status=Status.ERROR, reason="crash_loop")
    Tenant.objects.filter(pk=gone.pk).update(status=Status.DELETED)

    def shown(query):
        return {t.slug for t in boss.get(LIST + query).context["cl"].result_list}

    assert shown("") == {"first", "second"}
    assert shown("?status=deleted") == {"gone"}
    assert shown("?reason=crash_loop") == {"second"}
    assert shown(f"?plan__id__exact={first.plan_id}&node__id__exact={first.node_id}") == {"first", "second"}
    assert shown("?agent_kind=zeroclaw") == set()
    assert shown(f"?q={first.public_id}") == {"first"}
    assert shown("?q=seco") == {"second"}


# --- acts ----------------------------------------------------------------------------------------------


def test_acts_go_through_the_services_in_the_name_of_who_is_logged_in(world, boss):
    tenant = world.tenant(deploy=True)
    answer = boss.post(url(tenant, "act", "restart"), follow=True, headers={"X-Request-ID": "request-0815"})
    assert told(answer) == ["Restart asked for: acme."]
    run = tenant.runs.get(kind=RunKind.RESTART)
    assert (run.actor, len(run.request_id)) == ("boss@example.test", 32)
    entry = audited("tenant.restart")
    assert (entry.actor_email, entry.ip_address, entry.request_id) == ("boss@example.test", "127.0.0.1", run.request_id)
    assert json.loads(entry.detail_json)["client_request_id"] == "request-0815"


def test_each_verb_does_what_it_says(world, boss):
    tenant = world.tenant(deploy=True)
    PlanFactory(slug="big", name="Big", memory_limit_mb=4_096)
    for verb, data, kind in [
        ("stop", {}, RunKind.STOP),
        ("start", {}, RunKind.START),
        ("suspend", {"hold": "billing", "note": "unpaid"}, RunKind.SUSPEND),
        ("reactivate", {"hold": "billing"}, RunKind.REACTIVATE),
        ("resize", {"plan": Plan.objects.get(slug="big").pk}, RunKind.RESIZE),
        ("deploy", {}, RunKind.PROVISION),
        ("delete", {"typed": tenant.slug}, RunKind.DEPROVISION),
    ]:
        act(boss, tenant, verb, **data)
        run = tenant.runs.order_by("-pk").first()
        assert run.kind == kind
        assert world.drive(run).status == "succeeded", verb
    assert world.fresh(tenant).status == Status.DELETED
    assert Hold.objects.get().note == "unpaid"


def test_a_refusal_is_told_in_its_own_words_and_is_no_error_page(world, boss):
    tenant = world.tenant()
    answer = act(boss, tenant, "restart")
    assert answer.status_code == 200
    assert told(answer) == ["Not done for acme: This tenant is meant to be stopped; start it instead."]


def test_a_list_action_tells_of_each_and_goes_on_after_a_refusal(world, boss):
    up, down = world.tenant("Up", deploy=True), world.tenant("Downer")
    asked = bulk(boss, [up, down], "restart")
    assert asked.templates[0].name == "admin/tenants/ask.html"
    before = Run.objects.count()
    tried = bulk(boss, [up, down], "restart", sure="1", dry="1")
    assert [(row.tenant.slug, row.ok) for row in tried.context["rows"]] == [(up.slug, True), ("downer", False)]
    assert Run.objects.count() == before
    assert audited("tenant.restart") is None
    answer = bulk(boss, [up, down], "restart", sure="1")
    assert [(row.tenant.slug, row.ok, row.text) for row in answer.context["done"]] == [
        (up.slug, True, "Restart asked for"),
        ("downer", False, "This tenant is meant to be stopped; start it instead."),
    ]
    assert answer.context["done"][0].run.kind == "restart"


def test_a_list_action_that_hurts_asks_first(world, boss):
    one, two = world.tenant("One"), world.tenant("Two")
    page = bulk(boss, [one, two], "suspend")
    assert page.templates[0].name == "admin/tenants/ask.html"
    assert not Hold.objects.exists()
    bulk(boss, [one, two], "suspend", sure="1", hold="operator", note="")
    assert Hold.objects.count() == 2


def test_no_more_than_a_hundred_at_once(boss):
    fleet(101)
    answer = bulk(boss, Tenant.objects.all()[:1], "stop", select_across="1")
    assert told(answer) == ["At most 100 tenants at once; nothing was done."]
    assert not Run.objects.exists()


@pytest.mark.parametrize("typed", ["", "acme ", "ACME", "acm", "yes", "delete 1 tenants"])
def test_delete_wants_the_name_typed(world, boss, typed):
    tenant = world.tenant()
    answer = act(boss, tenant, "delete", typed=typed)
    # Django takes surrounding spaces away, as it does for every field.
    deleted = typed.strip() == tenant.slug
    assert (world.fresh(tenant).desired == Desired.DELETED) is deleted
    if not deleted:
        assert answer.templates[0].name == "admin/tenants/ask.html"


def test_deleting_several_wants_their_number_typed(world, boss):
    tenants = [world.tenant("One"), world.tenant("Two"), world.tenant("Keep")]
    page = bulk(boss, tenants[:2], "delete").content.decode()
    assert "delete 2 tenants" in page
    assert "Lost:" in page
    assert "Kept for 7 days" in page
    bulk(boss, tenants[:2], "delete", sure="1", typed="delete 3 tenants")
    assert not Tenant.objects.filter(desired=Desired.DELETED).exists()
    answer = bulk(boss, tenants[:2], "delete", sure="1", typed="delete 2 tenants")
    assert [(row.tenant.slug, row.text) for row in answer.context["done"]] == [
        ("one", "Deletion asked for"),
        ("two", "Deletion asked for"),
    ]
    assert list(Tenant.objects.exclude(desired=Desired.DELETED).values_list("slug", flat=True)) == ["keep"]


@pytest.mark.parametrize("model", ["tenant", "run", "plan", "node"])
def test_django_s_own_deleting_is_off(world, boss, model):
    tenant = world.tenant(deploy=True)
    row = {"tenant": tenant, "run": tenant.runs.get(), "plan": tenant.plan, "node": tenant.node}[model]
    assert boss.post(f"/admin/tenants/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    boss.post(f"/admin/tenants/{model}/", {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    row.refresh_from_db()


def test_c5_what_was_observed_can_not_be_posted(world, boss):
    tenant = world.tenant()
    forged = {"status": "running", "port": "1", "uid": "0", "plan": "9", "_save": "Save", "handle": "{}"}
    before = Tenant.objects.values().get()
    assert boss.post(url(tenant, "change"), forged).status_code == 405
    act(boss, tenant, "resize", **forged)
    assert Tenant.objects.values().get() == before


def test_secrets_have_no_page_of_their_own(boss):
    for model in ("vault/secret", "vault/keyversion", "tenants/tenantsecret", "tenants/accesstoken"):
        assert boss.get(f"/admin/{model}/").status_code == 404


# --- the page ------------------------------------------------------------------------------------------


def test_the_page_says_the_state_first_and_offers_what_fits(world, boss):
    tenant = world.tenant()
    page = boss.get(url(tenant, "change")).content.decode()
    assert "Not deployed yet" in page
    assert ">Deploy<" in page
    assert ">Restart<" not in page
    act(boss, tenant, "deploy")
    page = boss.get(url(tenant, "change")).content.decode()
    assert page.index("Deploying") < page.index("Facts")
    world.drive(tenant.runs.get())
    page = boss.get(url(tenant, "change")).content.decode()
    assert "Running for less than a minute" in page
    assert ">Restart<" in page
    assert page.count('class="step step-done"') == 12
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.ERROR, reason="oom_killed", detail="exit code 137")
    page = boss.get(url(tenant, "change")).content.decode()
    assert "Error: the agent ran out of memory" in page
    assert "exit code 137" in page
    assert "Resize to a plan with more memory, or restart." in page


def test_a_run_is_a_timeline_with_what_is_still_to_come(world, boss):
    tenant = world.tenant()
    run = services.deploy(actor=OPERATOR, tenant=tenant)
    page = boss.get(f"/admin/tenants/run/{run.pk}/change/").content.decode()
    assert page.count('class="step step-pending"') == 12
    world.drive(run)
    page = boss.get(f"/admin/tenants/run/{run.pk}/change/").content.decode()
    assert "http-equiv" not in page, "a run that has ended is not loaded again and again"
    assert page.count('class="step step-done"') == 12
    assert boss.get("/admin/tenants/run/?kind__exact=provision&status__exact=succeeded").context["cl"].result_count == 1
    assert boss.get("/admin/tenants/run/?status__exact=failed").context["cl"].result_count == 0
    assert boss.get("/admin/tenants/run/x/change/").status_code == 404


def test_logs_are_shown_and_an_engine_that_is_down_is_told(world, boss):
    tenant = world.tenant(deploy=True)
    assert "started" in boss.get(url(tenant, "logs")).content.decode()
    world.use("DownRuntime")
    answer = boss.get(url(tenant, "logs"))
    assert answer.status_code == 200
    assert len(told(answer)) == 1
    assert "There are no lines" in answer.content.decode()


def test_a_run_that_failed_shows_its_cause_where_it_happened(world, boss):
    world.use("BadRuntime")
    tenant = world.tenant()
    run = world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
    assert run.status == "failed"
    page = boss.get(f"/admin/tenants/run/{run.pk}/change/").content.decode()
    failed = page.index("step-failed")
    assert 'class="cause"' in page[failed : failed + 600]
    assert "step-pending" not in page


# --- a new tenant --------------------------------------------------------------------------------------


def new(world, **data):
    PlanFactory()
    world.node()
    plan = PlanFactory(slug="pro").pk
    return {"name": "New One", "plan": plan, "agent": "demo", "runtime": "fake", "key": "k1", **data}


def test_a_new_tenant_s_token_is_shown_once_and_stored_nowhere(world, boss):
    answer = boss.post(ADD, new(world, deploy_now="on"))
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    token = re.search(r"zct_[\w-]{20,}", answer.content.decode())[0]
    tenant = Tenant.objects.get()
    assert (tenant.slug, tenant.runs.get().kind) == ("new-one", RunKind.PROVISION)
    assert list(tenant.members.values_list("user__email", "role")) == [("boss@example.test", "owner")]
    assert token not in str(answer.cookies) + str(dict(boss.session))
    assert token not in str(list(AuditEntry.objects.values())) + str(rows())
    assert token not in boss.get(url(tenant, "change")).content.decode()
    assert audited("tenant.create").actor_email == "boss@example.test"


def test_a_form_that_is_sent_twice_makes_one_tenant(world, boss):
    data = new(world)
    boss.post(ADD, data)
    answer = boss.post(ADD, data, follow=True)
    assert Tenant.objects.count() == AccessToken.objects.count() == 1
    assert "its token is not shown again" in told(answer)[0]
    assert "zct_" not in re.sub(r"zct_[\w-]{0,8}…", "", answer.content.decode())


def test_another_form_under_the_same_key_gets_no_old_answer_and_can_be_sent_again(world, boss):
    data = new(world)
    boss.post(ADD, data)
    page = boss.post(ADD, {**data, "name": "Other", "slug": "other"})
    assert "has made a tenant already" in page.content.decode()
    assert Tenant.objects.count() == 1
    key = page.context["form"]["key"].value()
    assert key != data["key"]
    boss.post(ADD, {**data, "name": "Other", "slug": "other", "key": key})
    assert set(Tenant.objects.values_list("slug", flat=True)) >= {"other"}
    assert Tenant.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"slug": "www"}, "is reserved for the platform"),
        ({"slug": "A B"}, "A slug has 3 to 30"),
        ({"name": ""}, "This field is required"),
        ({"owner": "nobody"}, "Enter a valid email address"),
        ({"agent": "openclaw"}, "needs 1536 MB"),
        ({"runtime": "elsewhere"}, "Select a valid choice"),
        ({"slug": "taken"}, "is taken"),
    ],
)
def test_a_new_tenant_that_is_refused_says_why_beside_the_field(world, boss, wrong, words):
    world.tenant("Taken")
    page = boss.post(ADD, new(world, **wrong)).content.decode()
    assert words in page
    assert Tenant.objects.count() == 1


def test_a_refused_form_can_be_sent_again(world, boss):
    boss.post(ADD, new(world, slug="www"))
    boss.post(ADD, new(world, slug="good"))
    assert Tenant.objects.get().slug == "good"


def test_another_owner_can_be_named_and_is_invited(world, boss):
    boss.post(ADD, new(world, owner="Dana@example.test"))
    assert not Member.objects.exists()
    assert list(Tenant.objects.get().invitations.values_list("email", "role")) == [("dana@example.test", "owner")]


# --- members -------------------------------------------------------------------------------------------


def test_members_are_added_changed_and_removed_by_the_service(world, boss):
    tenant = world.tenant()
    user = UserFactory(email="dana@example.test")
    boss.post(url(tenant, "member_set"), {"email": "Dana@example.test", "role": "viewer"})
    assert (tenant.members.count(), tenant.invitations.get().email) == (0, "dana@example.test")
    MemberFactory(tenant=tenant, role="owner")
    MemberFactory(tenant=tenant, user=user, role="viewer", invited_by=boss.user)
    boss.post(url(tenant, "member_set"), {"email": "dana@example.test", "role": "manager"})
    member = Member.objects.get(user=user)
    assert (member.role, member.invited_by) == ("manager", boss.user)
    assert audited("member.change").actor_email == "boss@example.test"
    boss.post(url(tenant, "member_remove", member.public_id))
    assert not Member.objects.filter(user=user).exists()


@pytest.mark.parametrize("act_on", ["remove", "demote"])
def test_the_last_owner_stays(world, boss, act_on):
    tenant = world.tenant()
    MemberFactory(tenant=tenant, user__email="owner@example.test", role="owner")
    member = tenant.members.get()
    if act_on == "remove":
        answer = boss.post(url(tenant, "member_remove", member.public_id), follow=True)
    else:
        answer = boss.post(url(tenant, "member_set"), {"email": "owner@example.test", "role": "viewer"}, follow=True)
    assert told(answer) == ["The last owner can't leave; make somebody else owner first."]
    assert tenant.members.get().role == "owner"


@pytest.mark.parametrize(
    "data",
    [
        {"email": "nobody@example.test", "role": "viewer"},
        {"email": "", "role": "viewer"},
        {"email": "a\nb@c", "role": "viewer"},
        {"email": "boss@example.test", "role": "super"},
        {},
    ],
)
def test_a_member_that_makes_no_sense_is_refused(world, boss, data):
    tenant = world.tenant()
    answer = boss.post(url(tenant, "member_set"), data, follow=True)
    assert answer.status_code == 200
    assert len(told(answer)) == 1
    assert not tenant.members.exists()


def test_a_member_of_another_tenant_is_absent_here(world, boss):
    tenant, other = world.tenant("One"), world.tenant("Two")
    member = MemberFactory(tenant=other)
    assert boss.post(url(tenant, "member_remove", member.public_id)).status_code == 404
    assert other.members.exists()
