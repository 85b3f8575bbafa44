"""The routes of a tenant do what they say, and the row, the audit and the answer agree."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from audit.models import AuditEntry
from tenants.models import Channel, Member, Run, Tenant
from tenants.states import Desired, RunStatus, Status
from tests.api.conftest import KEY, as_user, ids_of, with_key
from tests.factories import MemberFactory, PlanFactory, UserFactory
from tests.tenants.test_channels import VALID
from zcplatform.lib import clock
from zcplatform.lib.http import Reply


@pytest.fixture
def at(acme):
    return f"/tenants/{acme.public_id}"


@pytest.fixture
def owner(people):
    return people.owner


def ok(answer, *statuses):
    assert answer.status_code in (statuses or (200, 201, 202)), answer.content
    return answer.json()


def error(answer, status):
    assert answer.status_code == status, answer.content
    return answer.json()["error"]


def test_a_tenant_is_created_with_its_configuration_and_shown_once(people, node):
    body = {
        "name": "Neue Firma",
        "plan": "pro",
        "agent": "zeroclaw",
        "config": {"provider": "openai", "model": "gpt-4o", "provider_key": KEY},
        "channels": [{"kind": "discord", "values": VALID["discord"]}],
        "owner": "own@example.test",
        "deploy": True,
    }
    UserFactory(email="own@example.test")
    answer = people.super_admin.post("/tenants", body)
    made = ok(answer, 201)
    tenant = Tenant.objects.get(public_id=made["tenant"]["id"])
    assert (tenant.slug, tenant.desired, tenant.config.provider_model) == ("neue-firma", Desired.RUNNING, "gpt-4o")
    asked = tenant.invitations.get()
    assert (tenant.members.count(), asked.email, asked.role) == (0, "own@example.test", "owner")
    assert made["access_token"].startswith("zct_")
    assert answer["Location"] == f"/api/runs/{made['run']['id']}"
    assert made["run"]["steps"][0]["status"] == "pending"
    assert people.super_admin.get(f"/runs/{made['run']['id']}").json()["kind"] == "provision"
    again = people.super_admin.get("/tenants").content.decode()
    assert made["access_token"] not in again and KEY not in again


def test_whoever_signs_up_becomes_owner_within_what_is_offered(people, settings):
    settings.SELF_SERVICE_SIGNUP = True
    PlanFactory(slug="free", memory_limit_mb=256)
    made = ok(people.stranger.post("/tenants", {"name": "Mine", "deploy": False}), 201)
    assert (made["tenant"]["role"], made["run"]) == ("owner", None)
    assert error(people.stranger.post("/tenants", {"name": "Mine", "plan": "pro"}), 403)["type"] == "plan_not_offered"
    other = {"name": "Theirs", "owner": "x@example.test"}
    assert error(people.stranger.post("/tenants", other), 403)["type"] == "forbidden"


def test_the_list_is_filtered_searched_and_paged(people, acme, other):
    names = lambda answer: [item["name"] for item in ok(answer)["items"]]  # noqa: E731
    everybody = people.super_admin
    assert names(everybody.get("/tenants?order=name")) == ["Acme", "Other"]
    assert names(everybody.get("/tenants?search=ACM")) == ["Acme"]
    assert names(everybody.get("/tenants?status=stopped&plan=pro&agent=demo&order=-slug")) == ["Other", "Acme"]
    assert names(everybody.get("/tenants?plan=enterprise")) == []
    assert names(everybody.get("/tenants?agent=zeroclaw")) == []
    first = ok(everybody.get("/tenants?limit=1&order=name"))
    assert names(everybody.get(f"/tenants?limit=1&order=name&cursor={first['next_cursor']}")) == ["Other"]
    assert names(people.viewer.get("/tenants")) == ["Acme"]


def test_deleted_tenants_are_listed_for_super_admins_who_ask(people, other):
    Tenant.objects.filter(pk=other.pk).update(status=Status.DELETED, desired=Desired.DELETED)
    assert len(ok(people.super_admin.get("/tenants"))["items"]) == 1
    assert len(ok(people.super_admin.get("/tenants?status=deleted"))["items"]) == 1
    assert ok(people.stranger.get("/tenants?status=deleted"))["items"] == []


def test_the_life_of_a_tenant(owner, at, acme):
    run = ok(owner.post(f"{at}/start"), 202)
    assert (run["kind"], run["tenant"]) == ("start", str(acme.public_id))
    assert ok(owner.post(f"{at}/start"), 202)["id"] == run["id"]  # the same while one is under way
    assert error(owner.post(f"{at}/restart"), 409)["type"] == "run_active"
    assert ok(owner.get(f"{at}/status"))["run"]["id"] == run["id"]
    stopped = owner.post(f"{at}/stop")
    assert stopped["Location"] == f"/api/runs/{ok(stopped, 202)['id']}"
    assert ok(owner.get(f"/runs/{run['id']}"))["status"] == "cancelled"
    gone = ok(owner.delete(f"{at}?purge=true"), 202)
    assert ok(owner.delete(f"{at}?purge=true"), 202)["id"] == gone["id"]
    assert Run.objects.get(public_id=gone["id"]).params["purge"] is True
    assert error(owner.post(f"{at}/start"), 409)["type"] == "tenant_deleting"


def test_holds(people, at):
    ok(people.super_admin.post(f"{at}/suspend", {"hold": "billing", "note": "unpaid"}), 202)
    assert ok(people.owner.get(at))["holds"] == ["billing"]
    Run.objects.update(status=RunStatus.SUCCEEDED)
    assert error(people.owner.post(f"{at}/start"), 409)["type"] == "held"
    assert len(ok(people.owner.get(f"{at}/runs?kind=suspend&status=succeeded"))["items"]) == 1
    ok(people.super_admin.post(f"{at}/reactivate", {"hold": "billing"}), 202)
    assert ok(people.owner.get(at))["holds"] == []


def test_rename_resize_transfer(people, at, acme):
    assert ok(people.manager.patch(at, {"name": "Acme Ltd"}), 200)["tenant"]["name"] == "Acme Ltd"
    PlanFactory(slug="big", name="Big")
    assert ok(people.owner.post(f"{at}/resize", {"plan": "big"}), 200) == {"run": None}
    assert error(people.owner.post(f"{at}/resize", {"plan": "none"}), 422)["type"] == "unknown_plan"
    member = ids_of(acme)["member_id"]
    assert ok(people.owner.post(f"{at}/transfer", {"member": member}))["role"] == "manager"
    assert Member.objects.get(public_id=member).role == "owner"


def test_rotation_shows_the_new_token_once(people, at, acme):
    shown = ok(people.owner.post(f"{at}/rotate-secrets", **{"idempotency-key": "r-1"}), 200)
    assert shown["access_token"].startswith("zct_")
    again = people.owner.post(f"{at}/rotate-secrets", **{"idempotency-key": "r-1"})
    assert (ok(again)["access_token"], again["Idempotency-Replayed"]) == ("***", "true")
    assert acme.access_tokens.filter(revoked_at=None).count() == 1


def test_configuration_masked_changed_replaced_and_rolled_back(people, at):
    owner = people.owner
    config = ok(people.viewer.get(f"{at}/config"))
    assert (config["provider"], config["provider_key"]) == ("openai", "••••6789")
    changed = ok(owner.patch(f"{at}/config", {"model": "gpt-5", "extra": {"metrics": "none"}}), 200)
    assert (changed["config"]["model"], changed["config"]["extra"], changed["run"]) == (
        "gpt-5",
        {"metrics": "none"},
        None,
    )
    looked = ok(owner.post(f"{at}/config/preview", {"extra": {}}))
    assert (looked["restart"], [file["change"] for file in looked["files"]]) == (False, ["changed"])
    assert KEY not in json.dumps(looked)
    replaced = ok(owner.put(f"{at}/config", {"provider": "openai", "model": "gpt-6"}), 200)["config"]
    assert (replaced["extra"], replaced["provider_key"]) == ({}, "••••6789")
    revisions = ok(owner.get(f"{at}/config/revisions"))["items"]
    assert [row["number"] for row in revisions] == [3, 2, 1]
    assert revisions[0]["changed"] == ["extra", "model"]
    assert revisions[0]["secrets"] == ["provider_key"]
    first = ok(owner.get(f"{at}/config/revisions?limit=1"))
    assert first["items"][0]["changed"] == ["extra", "model"]
    back = ok(owner.post(f"{at}/config/rollback", {"revision": 2}), 200)
    assert (back["config"]["model"], back["incomplete"]) == ("gpt-5", [])
    assert error(owner.post(f"{at}/config/rollback", {"revision": 99}), 404)["type"] == "not_found"
    assert error(owner.put(f"{at}/config", {"provider": "nope"}), 422)["type"] == "unknown_provider"


def test_channels(people, at, acme):
    added = ok(people.manager.post(f"{at}/channels", {"kind": "telegram", "values": VALID["telegram"]}), 200)["channel"]
    assert added["secrets"]["bot_token"].startswith("••••")
    assert VALID["telegram"]["bot_token"] not in json.dumps(added)
    one = f"{at}/channels/{added['id']}"
    assert ok(people.viewer.get(one)) == added
    assert ok(people.viewer.get(f"{at}/channels"))["items"][-1] == added
    off = ok(people.manager.patch(one, {"enabled": False, "values": {"allow_from": ["*"]}}), 200)["channel"]
    assert (off["enabled"], off["config"]["allow_from"]) == (False, ["*"])
    bad = error(people.manager.patch(one, {"values": {"bot_token": "x"}}), 422)
    assert bad["details"]["field"] == "bot_token"
    assert ok(people.manager.delete(one), 200) == {"run": None}
    assert Channel.objects.filter(tenant=acme).count() == 1
    unknown = people.manager.post(f"{at}/channels", {"kind": "pigeon", "values": {}})
    assert error(unknown, 422)["type"] == "unknown_channel"


def test_h7_tests_of_connections_are_bounded_per_tenant(people, at, acme, monkeypatch):
    monkeypatch.setattr("zcplatform.lib.http.request", lambda *a, **k: Reply(401, {}, b""))
    told = ok(people.manager.post(f"{at}/provider/test", {}))
    assert (told["ok"], told["message"]) == (False, "The service did not accept the key.")
    channel = f"{at}/channels/{ids_of(acme)['channel_id']}/test"
    statuses = [people.manager.post(channel).status_code for _ in range(10)]
    assert statuses == [200] * 9 + [429]
    assert people.owner.post(f"{at}/provider/test", {}).status_code == 429


def test_members(people, at, acme):
    known = UserFactory(email="known@example.test", name="Known")
    asked = ok(people.manager.post(f"{at}/members", {"email": "Known@Example.test", "role": "viewer"}), 202)
    assert (asked["email"], asked["role"]) == (known.email, "viewer")
    joined = as_user(known).post("/invitations/accept", {"token": asked["id"]})
    assert joined.status_code == 200, joined.content
    added = next(row for row in ok(people.viewer.get(f"{at}/members"))["items"] if row["email"] == known.email)
    assert (added["name"], added["role"]) == ("Known", "viewer")
    twice = people.manager.post(f"{at}/members", {"email": known.email, "role": "viewer"})
    assert error(twice, 409)["type"] == "already_member"
    one = f"{at}/members/{added['id']}"
    assert ok(people.manager.patch(one, {"role": "manager"}))["role"] == "manager"
    assert error(people.manager.patch(one, {"role": "owner"}), 403)["type"] == "role_too_high"
    assert error(people.manager.patch(one, {"role": "king"}), 422)["type"] == "unknown_role"
    assert people.manager.delete(one).status_code == 204
    assert people.manager.delete(one).status_code == 404
    listed = ok(people.viewer.get(f"{at}/members"))["items"]
    assert {row["email"]: row["active"] for row in listed}[people.users["viewer"].email] is True
    assert False in {row["active"] for row in listed}


def test_c6_the_last_owner_stays_and_nobody_raises_themselves(people, at, acme):
    mine = Member.objects.get(tenant=acme, user=people.users["owner"])
    one = f"{at}/members/{mine.public_id}"
    assert error(people.owner.delete(one), 409)["type"] == "last_owner"
    assert error(people.super_admin.patch(one, {"role": "viewer"}), 409)["type"] == "last_owner"
    manager = Member.objects.get(tenant=acme, user=people.users["manager"])
    raised = people.manager.patch(f"{at}/members/{manager.public_id}", {"role": "owner"})
    assert error(raised, 403)["type"] == "role_too_high"
    higher = {"email": "x@example.test", "role": "owner"}
    assert error(people.manager.post(f"{at}/invitations", higher), 403)["type"] == "role_too_high"
    assert error(people.manager.post(f"{at}/members", higher), 403)["type"] == "role_too_high"


def test_everybody_may_leave_but_not_by_a_read_only_key(people, at, acme):
    viewer = people.users["viewer"]
    mine = Member.objects.get(tenant=acme, user=viewer)
    refused = with_key(viewer, "read").delete(f"{at}/members/{mine.public_id}")
    assert error(refused, 403)["type"] == "scope_too_narrow"
    assert people.viewer.delete(f"{at}/members/{mine.public_id}").status_code == 204
    assert people.viewer.get(at).status_code == 404


def test_access_tokens(people, at, acme):
    end = (clock.now() + timedelta(days=1)).isoformat()
    made = ok(people.manager.post(f"{at}/access-tokens", {"name": "site", "expires_at": end}), 201)
    assert made["access_token"].startswith(made["prefix"])
    listed = ok(people.manager.get(f"{at}/access-tokens"))["items"]
    assert made["id"] in [row["id"] for row in listed] and "access_token" not in listed[0]
    assert people.manager.delete(f"{at}/access-tokens/{made['id']}").status_code == 204
    assert made["id"] not in [row["id"] for row in ok(people.manager.get(f"{at}/access-tokens"))["items"]]
    for bad in ("2020-01-01T00:00:00Z", "2090-01-01T00:00:00", "tomorrow"):
        assert people.manager.post(f"{at}/access-tokens", {"name": "x", "expires_at": bad}).status_code == 422


def test_pairing(people, at, acme):
    code = ok(people.manager.get(f"{at}/pairing-code"))
    assert code == ok(people.manager.get(f"{at}/pairing-code"))
    assert ok(people.manager.post(f"{at}/reset-pairing"))["code"] != code["code"]


def test_logs_and_exec(people, at, acme, engine):
    assert ok(people.contributor.get(f"{at}/logs")) == {"lines": []}
    assert error(people.owner.post(f"{at}/exec", {"command": "id"}), 409)["type"] == "not_running"
    for command in ([], "", ["a\0b"], ["x"] * 65, "'"):
        assert people.owner.post(f"{at}/exec", {"command": command}).status_code == 422
    for seconds in (0, -1, 121, "5", True):
        assert people.owner.post(f"{at}/exec", {"command": "id", "timeout_s": seconds}).status_code == 422


def test_c13_what_a_super_admin_does_in_a_tenant_is_audited_as_such(people, at, acme):
    ok(people.super_admin.patch(at, {"name": "Seen"}, **{"x-reason": "ticket 4711"}), 200)
    row = ok(people.owner.get(f"{at}/audit?action=tenant.update"))["items"][0]
    assert (row["detail"]["as"], row["detail"]["reason"]) == ("super-admin", "ticket 4711")
    ok(people.owner.patch(at, {"name": "Again"}), 200)
    row = ok(people.owner.get(f"{at}/audit?action=tenant.update"))["items"][0]
    assert "as" not in row["detail"]


def test_the_audit_trail_is_the_tenants_own(people, at, acme, other):
    people.viewer.post(f"{at}/deploy")
    items = ok(people.manager.get(f"{at}/audit?outcome=denied"))["items"]
    assert [(row["action"], row["detail"]["ability"]) for row in items] == [("access.denied", "tenant.deploy")]
    everything = ok(people.manager.get(f"{at}/audit?limit=200"))["items"]
    assert len(everything) == AuditEntry.objects.filter(tenant_id=str(acme.public_id)).count()
    assert str(other.public_id) not in json.dumps(everything)


def test_every_refused_write_is_recorded_once(people, at, acme):
    before = AuditEntry.objects.filter(outcome="denied").count()
    people.viewer.post(f"{at}/stop")
    people.stranger.post(f"{at}/stop")
    people.read_key.post(f"{at}/stop")
    assert AuditEntry.objects.filter(outcome="denied").count() == before + 3


def test_explain(people, at, acme):
    told = ok(people.viewer.get(f"/explain?ability=tenant.deploy&tenant={acme.public_id}"))
    assert (told["allowed"], told["role"]) == (False, "viewer")
    asked = f"/explain?ability=tenant.deploy&tenant={acme.public_id}&user={people.users['manager'].email}"
    assert ok(people.super_admin.get(asked))["allowed"] is True
    assert error(people.viewer.get("/explain?ability=tenant.fly"), 422)["type"] == "unknown_ability"


def test_plans(people):
    assert [plan["slug"] for plan in ok(people.viewer.get("/plans"))["items"]] == ["pro"]
    changed = ok(people.super_admin.patch("/admin/plans/pro", {"max_channels": 12, "cpu_limit": 0.25}))
    assert (changed["max_channels"], changed["cpu_limit"], changed["max_members"]) == (12, 0.25, 20)
    for bad in ({"max_channels": 0}, {"max_channels": "5"}, {"max_channels": 5.0}, {"cpu_limit": 0.001}, {"id": 1}):
        assert people.super_admin.patch("/admin/plans/pro", bad).status_code == 422
    assert error(people.super_admin.patch("/admin/plans/none", {"name": "x"}), 404)["type"] == "not_found"


def test_one_member_in_two_tenants_has_the_role_of_each(people, at, acme, other):
    user = people.users["viewer"]
    MemberFactory(tenant=other, user=user, role="owner")
    assert ok(as_user(user).get(f"/tenants/{other.public_id}"))["role"] == "owner"
    assert ok(as_user(user).get(at))["role"] == "viewer"
