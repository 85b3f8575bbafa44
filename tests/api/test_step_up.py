"""The second factor is asked for an effect, by whatever verb, route or page it comes about."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from accounts import second_factor, stepup
from accounts.models import Login
from tenants.models import AccessToken, Invitation, Member
from tests.accounts.conftest import access_token
from tests.api.conftest import Api, with_key
from tests.architecture import ROOT
from tests.factories import MemberFactory
from tests.pages.conftest import browser
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def stale(people, acme, monkeypatch):
    """An owner with a second factor that was shown too long ago."""
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    user = people.users["owner"]
    second_factor.enrol_by_operator(user, actor=OPERATOR)
    user.refresh_from_db()
    api = Api(access_token(user, verified=True))
    then = clock.now() - stepup.FRESH - timedelta(seconds=1)
    Login.objects.filter(user=user).update(verified_at=then)
    return user, api


def members_of(acme):
    top = MemberFactory(tenant=acme, role="owner")
    return {"owner": top, "manager": acme.members.filter(role="manager").first()}


ASKED = {
    "remove an owner": lambda api, at, m: api.delete(f"{at}/members/{m['owner'].public_id}"),
    "demote an owner": lambda api, at, m: api.patch(f"{at}/members/{m['owner'].public_id}", {"role": "viewer"}),
    "raise": lambda api, at, m: api.patch(f"{at}/members/{m['manager'].public_id}", {"role": "owner"}),
    "add a manager": lambda api, at, m: api.post(f"{at}/members", {"email": "a@example.test", "role": "manager"}),
    "invite an owner": lambda api, at, m: api.post(f"{at}/invitations", {"email": "a@example.test", "role": "owner"}),
    "invite a contributor": lambda api, at, m: api.post(
        f"{at}/invitations", {"email": "a@example.test", "role": "contributor"}
    ),
    "access token": lambda api, at, m: api.post(f"{at}/access-tokens", {"name": "x"}),
    "pairing code": lambda api, at, m: api.get(f"{at}/pairing-code"),
    "reset pairing": lambda api, at, m: api.post(f"{at}/reset-pairing"),
    "api key": lambda api, at, m: api.post("/users/me/api-keys", {"name": "x", "scopes": ["read"]}),
    "rotate": lambda api, at, m: api.post(f"{at}/rotate-secrets"),
    "transfer": lambda api, at, m: api.post(f"{at}/transfer", {"member": str(m["manager"].public_id)}),
    "any command": lambda api, at, m: api.post(f"{at}/exec", {"command": ["id"]}),
    "delete": lambda api, at, m: api.delete(at),
}


def shape():
    """What the effects would change."""
    return list(Member.objects.order_by("pk").values_list("pk", "role")), AccessToken.objects.count()


@pytest.mark.parametrize("act", ASKED)
def test_each_effect_asks_and_changes_nothing(stale, acme, act):
    members = members_of(acme)
    before, invited = shape(), Invitation.objects.count()
    answer = ASKED[act](stale[1], f"/tenants/{acme.public_id}", members)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "step_up_required"), answer.content
    assert (shape(), Invitation.objects.count()) == (before, invited)


def test_removing_somebody_and_taking_them_in_as_more_is_no_way_round(stale, acme):
    """Removing and inviting as a viewer is free; anything above is the same as raising."""
    api, at, viewer = stale[1], f"/tenants/{acme.public_id}", MemberFactory(tenant=acme, role="viewer")
    email = viewer.user.email
    assert api.delete(f"{at}/members/{viewer.public_id}").status_code == 204
    for role, status in (("owner", 403), ("manager", 403), ("contributor", 403), ("viewer", 202)):
        assert api.post(f"{at}/members", {"email": email, "role": role}).status_code == status


def test_a_key_is_not_asked(stale, acme):
    key = with_key(stale[0], "admin")
    assert key.get(f"/tenants/{acme.public_id}/pairing-code").status_code == 200


PAGES = {
    "remove an owner": lambda m: ("post", f"members/{m['owner'].public_id}/remove", {}),
    "demote an owner": lambda m: ("post", f"members/{m['owner'].public_id}", {"role": "viewer"}),
    "invite": lambda m: ("post", "members/invite", {"email": "a@example.test", "role": "manager"}),
    "token": lambda m: ("post", "access", {"name": "x", "key": "k"}),
    "pairing": lambda m: ("get", "pairing", {}),
    "reset pairing": lambda m: ("post", "pairing/reset", {}),
}


@pytest.mark.parametrize("act", PAGES)
def test_the_pages_ask_as_well(stale, acme, act):
    user, members = stale[0], members_of(acme)
    client = browser(user)
    Login.objects.filter(user=user).update(verified_at=clock.now() - stepup.FRESH - timedelta(seconds=1))
    before, invited = shape(), Invitation.objects.count()
    method, path, data = PAGES[act](members)
    answer = getattr(client, method)(f"/tenants/{acme.slug}/{path}", data)
    assert (answer.status_code, answer["Location"][:12]) == (302, "/login/again"), answer.content
    assert (shape(), Invitation.objects.count()) == (before, invited)


def test_every_call_names_an_effect_and_every_effect_is_named():
    text = "".join(path.read_text() for app in ("accounts", "tenants") for path in (ROOT / app).rglob("*.py"))
    named = set(re.findall(r'(?<=stepup\.require\(request, ")[a-z.]+', text))
    assert named | {"role.given", "role.taken"} == stepup.EFFECTS.keys()
    assert named <= stepup.EFFECTS.keys()
    assert "stepup.require(request)" not in text
