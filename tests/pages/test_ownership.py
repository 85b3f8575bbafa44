"""Pairing, another name, another owner: what a manager and an owner do with their tenant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import Login
from audit.models import AuditEntry
from tenants import pairing
from tenants.models import Run
from tests.pages import table
from tests.pages.conftest import browser
from tests.pages.test_flows import told
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR


def paired(tenant):
    code = pairing.current(actor=OPERATOR, tenant=tenant).code.reveal()
    return pairing.exchange(tenant=tenant, code=code, name="kitchen tablet", actor=OPERATOR)[0]


def test_the_code_is_shown_with_what_was_paired_and_no_cache_keeps_it(stage):
    device = paired(stage.tenant)
    answer = browser(stage.people["manager"]).get(table.of(stage.tenant, "pairing"))
    page = answer.content.decode()
    tenant = type(stage.tenant).objects.get(pk=stage.tenant.pk)
    assert pairing.current(actor=OPERATOR, tenant=tenant).code.reveal() in page
    assert "kitchen tablet" in page
    assert f"{device.prefix}…" in page
    assert stage.token.prefix not in page  # made by hand, not paired
    assert "no-store" in answer["Cache-Control"]


def test_a_reset_asks_first_and_ends_the_code_and_what_was_paired(stage):
    device, manager, path = paired(stage.tenant), browser(stage.people["manager"]), table.of(stage.tenant, "pairing")
    before = manager.get(path).context["code"]
    question = manager.get(table.of(stage.tenant, "pairing_reset")).content.decode()
    assert "has to be paired again" in question
    device.refresh_from_db()
    assert device.revoked_at is None
    done = manager.post(table.of(stage.tenant, "pairing_reset"), follow=True)
    assert "Pairing is reset" in told(done)[0]
    assert done.context["code"] != before
    device.refresh_from_db()
    stage.token.refresh_from_db()
    assert (device.revoked_at is None, stage.token.revoked_at is None) == (False, True)


def test_a_tenant_that_is_being_deleted_says_so_instead_of_a_code(stage):
    stage.tenant.desired = "deleted"
    stage.tenant.save(update_fields=["desired"])
    page = browser(stage.people["manager"]).get(table.of(stage.tenant, "pairing"))
    assert page.status_code == 200
    assert "being deleted" in page.content.decode()
    assert "Reset pairing" not in page.content.decode()


def test_a_new_name_leads_to_the_run_that_tells_the_agent(stage):
    manager, path = browser(stage.people["manager"]), table.of(stage.tenant, "rename")
    assert 'value="Acme"' in manager.get(path).content.decode()
    for wrong in ("", "a\nb", "x" * 101):
        assert manager.post(path, {"name": wrong}).status_code == 422
    same = manager.post(path, {"name": "Acme"}, follow=True)
    assert told(same) == ["Nothing was changed."]
    done = manager.post(path, {"name": "Wayne & Sons"})
    run = Run.objects.get(kind="reconfigure", status="queued")
    assert done["Location"] == f"/runs/{run.public_id}"
    busy = manager.post(path, {"name": "Other"})
    assert busy.status_code == 422
    stage.tenant.refresh_from_db()
    assert stage.tenant.name == "Wayne & Sons"


def test_an_owner_hands_over_with_the_typed_name_and_becomes_manager(stage):
    owner, path = browser(stage.people["owner"]), table.of(stage.tenant, "transfer")
    heir = stage.tenant.members.get(user=stage.people["manager"])
    page = owner.get(path).content.decode()
    assert stage.people["manager"].email in page
    assert f"{stage.people['owner'].email} (owner)" not in page
    refused = owner.post(path, {"to": str(heir.public_id), "typed": "acm"})
    assert refused.status_code == 422
    assert "nothing was handed over" in refused.content.decode()
    for nobody in ("", "no-uuid", str(stage.tenant.members.get(role="owner").public_id)):
        assert owner.post(path, {"to": nobody, "typed": "acme"}).status_code == 422
    done = owner.post(path, {"to": str(heir.public_id), "typed": "acme"}, follow=True)
    assert "is the owner now" in told(done)[0]
    roles = dict(stage.tenant.members.values_list("user__email", "role"))
    assert roles[stage.people["manager"].email] == "owner"
    assert roles[stage.people["owner"].email] == "manager"
    assert owner.get(path).status_code == 403
    assert AuditEntry.objects.filter(action="tenant.transfer", outcome="ok").count() == 1


def test_without_an_heir_the_page_says_what_to_do(stage):
    stage.tenant.members.exclude(role="owner").delete()
    page = browser(stage.people["owner"]).get(table.of(stage.tenant, "transfer")).content.decode()
    assert "invite the new owner as a member first" in page
    assert "<select" not in page.split("data-dialog-content")[1]


@pytest.mark.parametrize("name", ["transfer", "rotate"])
def test_whoever_enrolled_shows_the_second_factor_first(stage, name):
    owner = browser(stage.people["owner"])
    path = table.of(stage.tenant, name)
    assert owner.get(path).status_code == 200
    type(stage.people["owner"]).objects.filter(pk=stage.people["owner"].pk).update(second_factor_at=clock.now())
    Login.objects.filter(user=stage.people["owner"]).update(verified_at=clock.now() - timedelta(minutes=11))
    heir = stage.tenant.members.get(user=stage.people["manager"])
    for answer in (owner.get(path), owner.post(path, {"to": str(heir.public_id), "typed": "acme"})):
        assert answer["Location"].startswith("/login/again?next=")
    assert stage.tenant.members.get(pk=heir.pk).role == "manager"


def test_the_first_token_is_shown_with_its_maker_and_ended_with_the_hand_over_when_asked(stage):
    owner, heir = browser(stage.people["owner"]), stage.tenant.members.get(role="manager")
    maker = stage.token.created_by
    assert maker
    assert f'<td class="less person">{maker}</td>' in owner.get(table.of(stage.tenant, "access")).content.decode()
    path = table.of(stage.tenant, "transfer")
    assert f"they were made by {maker}." in owner.get(path).content.decode()
    owner.post(path, {"to": str(heir.public_id), "typed": "acme", "revoke_tokens": "on"})
    stage.token.refresh_from_db()
    assert stage.token.revoked_at is not None
    heir.refresh_from_db()
    assert heir.role == "owner"
    assert AuditEntry.objects.filter(action="token.revoke", actor_email=stage.people["owner"].email).exists()


def test_a_hand_over_by_itself_leaves_the_tokens_alone(stage):
    owner, heir = browser(stage.people["owner"]), stage.tenant.members.get(role="manager")
    owner.post(table.of(stage.tenant, "transfer"), {"to": str(heir.public_id), "typed": "acme"})
    stage.token.refresh_from_db()
    assert stage.token.revoked_at is None
