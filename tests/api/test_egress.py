"""What an agent may connect to, by the API: seen by all members, changed by the owner within the plan's default."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tenants.egress import services
from tenants.models import Tenant
from tests.api.conftest import with_key
from tests.api.test_tenants import at, error, ok  # noqa: F401 - a fixture among them

# ruff: noqa: F811
LISTED = {"egress": "allowlist", "egress_hosts": ["API.example.com", "db.example.net:5432"]}


def stored(acme):
    config = Tenant.objects.get(pk=acme.pk).config
    return config.egress, config.egress_hosts


def test_it_is_shown_changed_previewed_kept_and_rolled_back(people, at, acme):
    seen = ok(people.viewer.get(f"{at}/config"))
    assert [seen[name] for name in ("egress", "egress_mode", "egress_hosts")] == ["", "open", []]
    looked = ok(people.owner.post(f"{at}/config/preview", LISTED))
    assert "-mode: open\n+mode: allowlist\n+host: api.example.com\n" in looked["egress"]
    assert (looked["files"], stored(acme)) == ([], ("", []))
    made = ok(people.owner.patch(f"{at}/config", LISTED), 200)["config"]
    assert (made["egress_mode"], made["egress_hosts"]) == ("allowlist", ["api.example.com", "db.example.net:5432"])
    assert AuditEntry.objects.get(action="egress.update").actor_email == people.users["owner"].email
    assert ok(people.owner.patch(f"{at}/config", {"egress": ""}), 200)["config"]["egress_mode"] == "open"
    rows = ok(people.viewer.get(f"{at}/config/revisions"))["items"]
    assert [row["changed"] for row in rows[:2]] == [["egress"], ["egress", "egress_hosts"]]
    assert rows[1]["egress"] == "allowlist"
    back = ok(people.owner.post(f"{at}/config/rollback", {"revision": rows[1]["number"]}), 200)
    assert back["config"]["egress"] == "allowlist"
    assert ok(people.owner.put(f"{at}/config", {"provider": "openai", "model": "gpt-5"}), 200)
    assert stored(acme)[0] == "allowlist", "silence widens nothing"


@pytest.mark.parametrize("path", ["", "/preview"])
def test_a_manager_and_a_narrow_key_may_not(people, at, acme, path):
    for who in (people.manager, with_key(people.users["owner"], "write")):
        call = who.post if path else who.patch
        refused = call(f"{at}/config{path}", LISTED)
        assert error(refused, 403)["type"] in ("forbidden", "scope_too_narrow")
    assert stored(acme) == ("", [])
    assert AuditEntry.objects.filter(action="access.denied").count() == 2


def test_wider_than_the_plan_is_the_super_admins_to_give(people, at, acme, settings):
    settings.EGRESS_DEFAULT = {"": "gateway"}
    assert ok(people.viewer.get(f"{at}/config"))["egress_mode"] == "gateway"
    refused = error(people.owner.patch(f"{at}/config", {"egress": "open"}), 403)
    assert (refused["type"], refused["details"]["limit"]) == ("egress_limit", "gateway")
    ok(people.super_admin.patch(f"{at}/config", {"egress": "open"}), 200)
    assert stored(acme)[0] == "open"


@pytest.mark.parametrize(
    "body",
    [
        {"egress": "wide"},
        {"egress": 1},
        {"egress_hosts": "api.example.com"},
        {"egress_hosts": ["*.com"]},
        {"egress_hosts": ["169.254.169.254"]},
        {"egress_hosts": ["exam\nple.com"]},
        {"egress_hosts": ["a.example.com"] * 101},
        {"egress_mode": "gateway"},
    ],
)
def test_what_is_no_mode_or_host_is_refused_with_its_field(people, at, acme, body):
    refused = error(people.super_admin.patch(f"{at}/config", body), 422)
    assert next(iter(body)) in str(refused["details"])
    assert stored(acme) == ("", [])


def test_a_process_is_told_that_nothing_would_enforce_it(people, at, acme, settings):
    settings.ALLOW_UNENFORCED_EGRESS = False
    acme.node.__class__.objects.filter(pk=acme.node_id).update(runtime="process")
    assert error(people.owner.patch(f"{at}/config", {"egress": "gateway"}), 409)["type"] == "egress_unenforced"
    assert stored(acme) == ("", [])


MODELS = "https://models.example.com/v1"
ELSEWHERE = {"base_url": "https://collect.example.net:8443/v1", "provider_key": "sk-canary-0123456789"}
CUSTOM = {"provider": "custom", "model": "m", "provider_key": "sk-canary-0123456789"}


def narrowed(people, at, settings, by):
    ok(people.owner.patch(f"{at}/config", {**CUSTOM, "base_url": MODELS}), 200)
    if by == "plan":
        settings.EGRESS_DEFAULT = {"": "gateway"}
    else:
        ok(people.owner.patch(f"{at}/config", {"egress": by, "egress_hosts": ["listed.example.com"]}), 200)


@pytest.mark.parametrize("by", ["plan", "gateway", "allowlist"])
def test_in_a_narrow_mode_the_models_address_is_the_owners_to_change(people, at, acme, settings, by):
    narrowed(people, at, settings, by)
    before = Tenant.objects.get(pk=acme.pk).config.base_url
    whole = {**CUSTOM, **ELSEWHERE}
    tries = [("patch", "", ELSEWHERE), ("put", "", whole), ("post", "/preview", ELSEWHERE), ("patch", "", whole)]
    for who in (people.manager, with_key(people.users["owner"], "write")):
        for method, path, body in tries:
            refused = error(getattr(who, method)(f"{at}/config{path}", body), 403)
            assert refused["details"]["ability"] == "egress.update", (method, path)
    assert Tenant.objects.get(pk=acme.pk).config.base_url == before
    assert AuditEntry.objects.filter(action="access.denied").count() == 2 * len(tries)
    ok(people.manager.patch(f"{at}/config", {"base_url": f"{MODELS}/other"}), 200)
    ok(people.manager.patch(f"{at}/config", {**CUSTOM, "provider": "openai"}), 200)
    ok(people.owner.patch(f"{at}/config", whole), 200)


def test_in_a_narrow_mode_a_rollback_takes_no_manager_to_another_address(people, at, acme, settings):
    ok(people.owner.patch(f"{at}/config", {**CUSTOM, **ELSEWHERE}), 200)
    number = acme.revisions.order_by("-number").first().number
    narrowed(people, at, settings, "plan")
    back = {"revision": number, "provider_key": "sk-canary-0123456789"}
    assert error(people.manager.post(f"{at}/config/rollback", back), 403)["details"]["ability"] == "egress.update"
    assert Tenant.objects.get(pk=acme.pk).config.base_url == MODELS
    ok(people.owner.post(f"{at}/config/rollback", back), 200)


def test_a_listed_host_may_be_the_models_address_and_one_of_the_mode_open_may_be_any(people, at, acme, settings):
    ok(people.manager.patch(f"{at}/config", {**CUSTOM, **ELSEWHERE}), 200)
    narrowed(people, at, settings, "allowlist")
    listed = {"base_url": "https://listed.example.com/v1", "provider_key": "sk-canary-0123456789"}
    ok(people.manager.patch(f"{at}/config", listed), 200)
    assert error(people.manager.patch(f"{at}/config", {**listed, "base_url": "https://listed.example.com:444/"}), 403)


def test_what_was_narrowed_between_the_look_and_the_act_counts(people, at, acme, settings, monkeypatch):
    ok(people.owner.patch(f"{at}/config", {**CUSTOM, "base_url": MODELS}), 200)
    look = services.allowed

    def narrow_after(**given):
        columns = look(**given)
        Tenant.objects.get(pk=acme.pk).config.__class__.objects.filter(tenant=acme).update(egress="gateway")
        return columns

    monkeypatch.setattr(services, "allowed", narrow_after)
    assert error(people.manager.patch(f"{at}/config", ELSEWHERE), 409)["type"] == "egress_changed"
    assert Tenant.objects.get(pk=acme.pk).config.base_url == MODELS
