"""Invitations: by mail, for one address, once, for a while. The token is in the mail alone."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.core import mail as outbox

from accounts import mail, second_factor
from accounts.models import Mail, User
from audit.models import AuditEntry
from tenants import invitations, membership
from tenants.models import Invitation, Member, Tenant
from tests.accounts.conftest import access_token
from tests.api.conftest import Api, as_user
from tests.factories import UserFactory
from tests.tenants.test_membership import at_once
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def at(acme):
    return f"/tenants/{acme.public_id}"


def sent_token():
    """What the queue's mail brings to the address, into the test runner's own backend."""
    mail.send_due()
    text = outbox.outbox[-1].body
    return re.search(r"/invitations/(zci_[A-Za-z0-9_-]{43})", text)[1]


@pytest.fixture
def invite(people, at, settings, monkeypatch):
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)

    def send(email="new@example.test", role="contributor", by=None):
        answer = (by or people.manager).post(f"{at}/invitations", {"email": email, "role": role})
        assert answer.status_code == 201, answer.content
        return answer.json()

    return send


def person():
    """Whoever has the address, with an account."""
    return User.objects.filter(email="new@example.test").first() or UserFactory(email="new@example.test")


def accept(user, token):
    return as_user(user).post("/invitations/accept", {"token": token})


def error(answer, status):
    assert answer.status_code == status, answer.content
    return answer.json()["error"]["type"]


def test_an_address_gets_a_mail_and_by_accepting_a_role(invite, people, at, acme):
    user = UserFactory(email="new@example.test")
    made = invite()
    assert (made["role"], made["invited_by"]) == ("contributor", people.users["manager"].email)
    answer = accept(user, sent_token())
    assert answer.json() == {"tenant": str(acme.public_id), "slug": "acme", "role": "contributor"}
    member = Member.objects.get(tenant=acme, user=user)
    assert (member.role, member.invited_by) == ("contributor", people.users["manager"])
    assert outbox.outbox[-1].to == ["new@example.test"]
    assert "Acme" in outbox.outbox[-1].subject


def test_c7_the_token_is_in_the_mail_and_nowhere_else(invite, people, at):
    made = invite()
    token = sent_token()
    seen = [json.dumps(made), people.manager.get(f"{at}/invitations").content.decode()]
    seen += [str(list(model.objects.values())) for model in (Invitation, AuditEntry, Mail)]
    seen.append(str(list(Tenant.objects.get(slug="acme").events.values())))
    assert not any(token in text for text in seen)
    assert people.viewer.get(f"{at}/invitations").status_code == 403


def test_c8_only_the_invited_address_and_only_once(invite, acme):
    invite()
    token, user = sent_token(), person()
    assert error(accept(UserFactory(), token), 403) == "not_invited"
    assert AuditEntry.objects.filter(action="access.denied", outcome="denied").exists()
    assert as_user(user).get(f"/invitations/accept?token={token}").status_code in (405, 422)
    assert not Member.objects.filter(user=user).exists()
    assert accept(user, token).status_code == 200
    assert error(accept(user, token), 409) == "invitation_used"
    assert error(accept(user, "zci_" + "a" * 43), 404) == "not_found"


def test_c8_opening_the_link_changes_nothing(invite, client, acme):
    invite()
    token = sent_token()
    before = list(Invitation.objects.values()), Member.objects.count()
    user = person()
    assert client.get(f"/invitations/{token}").status_code == 302, "whoever has an account logs in first"
    client.force_login(user)
    page = client.get(f"/invitations/{token}")
    assert page.status_code == 200 and b"Acme" in page.content
    assert (list(Invitation.objects.values()), Member.objects.count()) == before
    assert client.post(f"/invitations/{token}").status_code == 200
    assert Member.objects.filter(user=user, tenant=acme, role="contributor").exists()
    assert client.post(f"/invitations/{token}").status_code == 409
    assert client.get("/invitations/zci_nothing").status_code == 404


def test_an_invitation_runs_out_and_can_be_taken_back(invite, people, at):
    first = invite()
    token, user = sent_token(), person()
    assert people.manager.delete(f"{at}/invitations/{first['id']}").status_code == 204
    assert people.manager.delete(f"{at}/invitations/{first['id']}").status_code == 404
    assert error(accept(user, token), 409) == "invitation_revoked"
    invite()
    token = sent_token()
    later = clock.now() + timedelta(days=7, seconds=1)
    assert len(people.manager.get(f"{at}/invitations").json()["items"]) == 2
    with clock.use(lambda: later):
        with pytest.raises(Exception, match="run out"):
            invitations.accept(actor=user.as_actor(), user=user, token=token)
        assert not invitations.open_ones(Tenant.objects.get(slug="acme")).exists()


def test_inviting_again_ends_the_former_invitation(invite, people, at):
    invite(role="viewer")
    old = sent_token()
    invite(role="manager")
    user = person()
    assert error(accept(user, old), 409) == "invitation_revoked"
    assert accept(user, sent_token()).json()["role"] == "manager"


def test_b4_an_invitation_does_not_outlive_the_right_to_give_the_role(invite, people, acme):
    invite(role="manager")
    token, user = sent_token(), person()
    membership.set_role(actor=OPERATOR, tenant=acme, user=people.users["manager"], role="contributor")
    assert error(accept(user, token), 409) == "invitation_void"
    membership.set_role(actor=OPERATOR, tenant=acme, user=people.users["manager"], role="manager")
    assert accept(user, token).status_code == 200


def test_members_and_full_plans_are_refused(invite, people, at, acme):
    known = people.users["viewer"].email
    answer = people.manager.post(f"{at}/invitations", {"email": known.upper(), "role": "viewer"})
    assert error(answer, 409) == "already_member"
    invite()
    token, user = sent_token(), person()
    acme.plan.max_members = acme.members.count()
    acme.plan.save()
    assert error(accept(user, token), 403) == "plan_limit"
    other = people.manager.post(f"{at}/invitations", {"email": "more@example.test", "role": "viewer"})
    assert error(other, 403) == "plan_limit"
    for email in ("no-address", "a@b.c\r\nBcc: x@y.z", "", "a" * 300):
        assert people.manager.post(f"{at}/invitations", {"email": email, "role": "viewer"}).status_code == 422


def test_adding_or_inviting_an_owner_wants_the_step_up(people, at, monkeypatch):
    """Else whoever has an owner's session makes an owner of themselves, and does there what it may not do here."""
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    user = people.users["owner"]
    second_factor.enrol_by_operator(user, actor=OPERATOR)
    user.refresh_from_db()
    api, known = Api(access_token(user, verified=True)), UserFactory().email
    later, before = clock.now() + timedelta(minutes=10), Member.objects.filter(role="owner").count()
    with clock.use(lambda: later):
        for route, email in (("members", known), ("members", "a@example.test"), ("invitations", "a@example.test")):
            assert error(api.post(f"{at}/{route}", {"email": email, "role": "owner"}), 403) == "step_up_required"
        assert api.post(f"{at}/members", {"email": known, "role": "viewer"}).status_code == 202
        assert api.post(f"{at}/invitations", {"email": "a@example.test", "role": "viewer"}).status_code == 201
    assert Member.objects.filter(role="owner").count() == before
    assert not Invitation.objects.filter(role="owner").exists()


def test_mails_are_bounded_per_tenant_by_whatever_way(invite, people, at, acme, monkeypatch):
    monkeypatch.setattr(invitations, "PER_HOUR", acme.invitations.count() + 2)
    for number in range(2):
        invite(email=f"n{number}@example.test")
    for route in ("invitations", "members"):
        answer = people.manager.post(f"{at}/{route}", {"email": "n2@example.test", "role": "viewer"})
        assert error(answer, 429) == "rate_limited"
        assert 3_500 < int(answer["Retry-After"]) <= 3_600
    assert not User.objects.filter(email="n2@example.test").exists()
    later = clock.now() + timedelta(hours=1, seconds=1)
    with clock.use(lambda: later):
        invitations.invite(actor=OPERATOR, tenant=acme, email="n2@example.test", role="viewer")


@pytest.mark.django_db(transaction=True)
def test_of_many_who_accept_at_once_one_does(invite, acme):
    invite()
    token, user = sent_token(), person()
    act = lambda: invitations.accept(actor=user.as_actor(), user=user, token=token)  # noqa: E731
    raised = at_once(*[act] * 6)
    assert len(raised) == 5
    assert Member.objects.filter(tenant=acme, user=user).count() == 1


def test_an_invitation_to_a_tenant_that_is_deleted_is_gone(invite, acme):
    invite()
    token, user = sent_token(), person()
    Tenant.objects.filter(pk=acme.pk).update(desired="deleted")
    assert error(accept(user, token), 404) == "not_found"


def test_a_known_account_is_a_member_at_once_and_an_inactive_one_is_invited(people, at, acme, monkeypatch):
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    gone = UserFactory(email="gone@example.test", is_active=False)
    answer = people.manager.post(f"{at}/members", {"email": gone.email, "role": "viewer"})
    assert (answer.status_code, answer.json()["email"]) == (202, gone.email)


def test_no_answer_tells_whether_an_address_has_an_account(people, at, acme, monkeypatch):
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    UserFactory(email="known@example.test"), UserFactory(email="gone@example.test", is_active=False)
    before, seen = Member.objects.count(), []
    for route in ("members", "invitations"):
        for name in ("known", "gone", "nobody"):
            answer = people.manager.post(f"{at}/{route}", {"email": f"{name}@example.test", "role": "viewer"})
            body = {key: value for key, value in answer.json().items() if key not in ("id", "created_at", "expires_at")}
            assert body.pop("email") == f"{name}@example.test"
            seen.append((route, answer.status_code, str(body)))
    assert len(set(seen)) == 2
    assert {status for route, status, _ in seen if route == "members"} == {202}
    assert Member.objects.count() == before, "nobody joins without saying yes"
    assert not User.objects.filter(email="nobody@example.test").exists()


def test_who_has_no_account_gets_it_by_accepting_the_mailed_link(invite, client, acme):
    invite()
    token = sent_token()
    page = client.get(f"/invitations/{token}")
    assert (page.status_code, b"new@example.test" in page.content) == (200, True)
    assert not User.objects.filter(email="new@example.test").exists()
    assert client.post(f"/invitations/{token}").status_code == 200
    user = User.objects.get(email="new@example.test")
    assert acme.members.get(user=user).role == "contributor"
    assert client.get("/account").status_code == 200, "and is logged in"
    client.logout()
    answer = client.post(f"/invitations/{token}")
    assert (answer.status_code, answer["Location"][:7]) == (302, "/login?"), (
        "the link logs in nobody who has an account"
    )


def test_an_invitation_that_is_over_makes_no_account(invite, people, at, client):
    made = invite()
    token = sent_token()
    people.manager.delete(f"{at}/invitations/{made['id']}")
    assert client.post(f"/invitations/{token}").status_code == 409
    assert not User.objects.filter(email="new@example.test").exists()


def test_who_is_logged_in_with_the_address_needs_no_mail(invite, client, acme):
    made, user = invite(), person()
    client.force_login(user)
    assert f"/invitations/{made['id']}" in client.get("/").content.decode()
    assert client.get(f"/invitations/{made['id']}").status_code == 200
    stranger = UserFactory()
    assert error(accept(stranger, made["id"]), 403) == "not_invited"
    client.logout()
    assert client.post(f"/invitations/{made['id']}").status_code == 302, "the id proves no address"
    assert accept(user, made["id"]).status_code == 200


def test_one_user_and_one_address_have_their_own_bounds(invite, people, at, acme, monkeypatch):
    for _ in range(5):
        invite()
    assert error(people.manager.post(f"{at}/invitations", {"email": "new@example.test", "role": "viewer"}), 429)
    monkeypatch.setattr(invitations, "PER_SENDER", 6)
    invite(email="b@example.test")
    assert error(people.manager.post(f"{at}/invitations", {"email": "c@example.test", "role": "viewer"}), 429)
    invite(email="c@example.test", by=people.owner)


def test_a_tenant_made_for_somebody_waits_for_their_yes(people, acme, monkeypatch):
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    owner = UserFactory(email="own@example.test")
    body = {"name": "For somebody", "plan": acme.plan.slug, "agent": "demo", "runtime": "fake", "deploy": False}
    made = people.super_admin.post("/tenants", {**body, "owner": "Own@example.test"})
    assert made.status_code == 201, made.content
    tenant = Tenant.objects.get(public_id=made.json()["tenant"]["id"])
    assert (tenant.members.count(), tenant.invitations.get().role) == (0, "owner")
    assert tenant not in Tenant.objects.ownerless(), "an owner's invitation is open"
    later = clock.now() + timedelta(days=8)
    with clock.use(lambda: later):
        assert tenant in Tenant.objects.ownerless()
    assert accept(owner, sent_token()).json()["role"] == "owner"
