"""What a person does on the pages, with the services' answers as they come."""

from __future__ import annotations

import re

from accounts import second_factor, stepup
from accounts.models import Login, User
from tenants import services
from tenants.models import Run, Tenant
from tenants.states import Status
from tests.pages import table
from tests.pages.conftest import browser
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR


def told(answer):
    return [str(message) for message in answer.context["messages"]]


def fields(client, path):
    """The hidden fields of the page's form, as a browser would send them."""
    return dict(re.findall(r'name="(key)" value="([^"]+)"', client.get(path, follow=True).content.decode()))


def test_the_wizard_makes_a_draft_and_shows_its_token_once(stage):
    boss = browser(stage.people["super-admin"])
    data = {"name": "Wayne", "plan": "pro", "agent": "demo", "runtime": "fake", **fields(boss, "/new-tenant")}
    made = boss.post("/new-tenant", data, follow=True)
    tenant = Tenant.objects.get(slug="wayne")
    assert tenant.status == Status.DRAFT
    assert 'id="new-token">zct_' in made.content.decode()
    assert "zct_" not in boss.get("/tenants/wayne/setup/token").content.decode()
    again = boss.post("/new-tenant", data, follow=True)
    assert Tenant.objects.filter(name="Wayne").count() == 1
    assert again.redirect_chain[-1][0] == "/tenants/wayne/setup/model"
    assert "is not shown again" in told(again)[0]
    assert boss.post("/tenants/wayne/setup/model", {"do": "save", "extra_config": "{}"}).status_code == 302
    assert boss.get("/tenants/wayne/setup/channels").status_code == 200
    deployed = boss.post("/tenants/wayne/setup/review")
    run = Run.objects.get(tenant=tenant)
    assert deployed["Location"] == f"/runs/{run.public_id}"
    live = boss.get(f"/runs/{run.public_id}/live").content.decode()
    assert "hx-get" in live  # it asks again as long as the run goes on
    stage.world.drive(run)
    done = boss.get(f"/runs/{run.public_id}/live").content.decode()
    assert "hx-get" not in done
    assert "Done in" in done


def test_a_failed_run_says_why_and_offers_retry_and_delete(stage):
    Run.objects.filter(pk=stage.run.pk).update(status="failed", reason="image_missing", error="No such image.")
    Run.objects.filter(tenant=stage.tenant).exclude(pk=stage.run.pk).delete()
    page = browser(stage.people["owner"]).get(f"/runs/{stage.run.public_id}").content.decode()
    assert "The agent&#x27;s image is not on the node" in page
    assert "No such image." in page
    assert "Retry" in page
    assert "/tenants/acme/do/delete" in page
    viewers = browser(stage.people["viewer"]).get(f"/runs/{stage.run.public_id}").content.decode()
    assert "Retry" not in viewers


def test_deleting_wants_the_typed_name_and_leads_to_the_run(stage):
    owner = browser(stage.people["owner"])
    refused = owner.post(table.of(stage.tenant, "act", "delete"), {"typed": "acm"})
    assert refused.status_code == 422
    assert "nothing was deleted" in refused.content.decode()
    accepted = owner.post(table.of(stage.tenant, "act", "delete"), {"typed": "acme"})
    run = Run.objects.get(kind="deprovision")
    assert accepted["Location"] == f"/runs/{run.public_id}"
    stage.world.drive(run)
    assert owner.get(f"/runs/{run.public_id}").status_code == 200  # the end can still be read
    assert owner.get(table.of(stage.tenant, "overview")).status_code == 404


def test_a_change_is_previewed_stored_and_taken_back(stage):
    manager, path = browser(stage.people["manager"]), table.of(stage.tenant, "configuration")
    form = {
        "provider": "openai",
        "model": "gpt-test",
        "base_url": "",
        "provider_key": "sk-0123456789abcdef",
        "extra_config": "{}",
    }
    preview = manager.post(path, {**form, "do": "preview"})
    assert [file.name for file in preview.context["files"]] == ["demo.json"]
    assert preview.context["preview"].restart
    assert any(line.kind == "plus" and "gpt-test" in line.text for line in preview.context["files"][0].lines)
    assert stage.tenant.revisions.count() == 2  # as it was found, and the channel
    saved = manager.post(path, {**form, "do": "save"})
    run = Run.objects.get(kind="reconfigure", status="queued")
    assert saved["Location"] == f"/runs/{run.public_id}"
    stage.world.drive(run)
    shown = manager.get(path).content.decode()
    assert "sk-0123456789abcdef" not in shown
    assert "ends in" in shown
    assert manager.get(table.of(stage.tenant, "rollback", 2)).status_code == 200
    manager.post(table.of(stage.tenant, "rollback", 2))
    stage.tenant.config.refresh_from_db()
    assert stage.tenant.config.provider_model == ""


def test_a_secret_is_rendered_by_no_page(stage):
    """Write-only: what is stored in the vault comes back on no page, for nobody."""
    from tests.tenants.test_channels import VALID

    value = VALID["telegram"]["bot_token"]
    secret = value.reveal() if hasattr(value, "reveal") else value
    boss = browser(stage.people["super-admin"])
    for path in ["/", "/tenants/", *table.reads(stage)]:
        assert secret not in boss.get(path).content.decode(errors="replace"), path


def test_members_are_invited_changed_and_removed(stage):
    owner, slug = browser(stage.people["owner"]), stage.tenant
    sent = owner.post(table.of(slug, "invite"), {"email": "dana@example.test", "role": "manager"}, follow=True)
    assert "dana@example.test is invited" in told(sent)[0]
    changed = owner.post(table.of(slug, "member", stage.member.public_id), {"role": "contributor"}, follow=True)
    assert "is contributor now" in told(changed)[0]
    gone = owner.post(table.of(slug, "member_remove", stage.member.public_id), follow=True)
    assert "was removed" in told(gone)[0]
    assert not stage.tenant.members.filter(pk=stage.member.pk).exists()
    manager = browser(stage.people["manager"])
    refused = manager.post(table.of(slug, "invite"), {"email": "x@example.test", "role": "owner"}, follow=True)
    assert "above your own" in told(refused)[0]


def test_inviting_an_owner_wants_the_second_factor_again(stage):
    user, path = stage.people["owner"], table.of(stage.tenant, "invite")
    second_factor.enrol_by_operator(user, actor=OPERATOR)
    owner = browser(User.objects.get(pk=user.pk))
    Login.objects.filter(user=user, revoked_at=None).update(verified_at=clock.now() - stepup.FRESH)
    sent = owner.post(path, {"email": "dana@example.test", "role": "owner"})
    assert sent["Location"].startswith("/login/again?")
    assert "is invited" in told(owner.post(path, {"email": "dana@example.test", "role": "viewer"}, follow=True))[0]
    assert not stage.tenant.invitations.filter(role="owner").exists()


def test_logs_are_filtered_and_downloaded(stage):
    for agent in stage.world.agents():
        agent.output[:] = ["ready", "ERROR lost the thread"]
    reader = browser(stage.people["contributor"])
    page = reader.get(table.of(stage.tenant, "logs") + "?q=lost")
    assert [(line.text, line.level) for line in page.context["lines"]] == [("ERROR lost the thread", "error")]
    file = reader.get(table.of(stage.tenant, "logs_download"))
    assert file["Content-Disposition"].startswith('attachment; filename="acme-')


def test_the_dashboard_shows_the_troubled_first(stage):
    Tenant.objects.filter(slug="other").update(status=Status.ERROR, reason="oom_killed")
    fleet = browser(stage.people["super-admin"]).get("/")
    assert dict(fleet.context["counts"])["error"] == 1
    matter = next(found for found in fleet.context["attention"] if found.name == "other")
    assert matter.why == "the agent ran out of memory"
    assert [label for label, _ in matter.links] == ["Resize", "Logs"]
    mine = browser(stage.people["viewer"]).get("/")
    assert [line.tenant.slug for line in mine.context["lines"]] == ["acme"]


def test_an_empty_list_offers_what_would_fill_it(db, client, super_admin):
    from tests.factories import UserFactory

    client.force_login(super_admin)
    assert "No tenants yet" in client.get("/tenants/").content.decode()
    client.force_login(UserFactory())
    page = client.get("/tenants/").content.decode()
    assert "once you accept an invitation" in page
    assert client.get("/new-tenant").status_code == 403


def test_the_brand_is_of_the_settings(db, client, settings, super_admin):
    settings.BRAND_NAME, settings.BRAND_COLOR = "Agents Inc", "#ffcc00"
    client.force_login(super_admin)
    assert "Agents Inc" in client.get("/").content.decode()
    sheet = client.get("/brand.css").content.decode()
    assert sheet.count("--brand:#") == 2
    assert "--brand:#ffcc00" in sheet.split("@media")[1]  # readable on dark as it is
    assert "--brand:#ffcc00" not in sheet.split("@media")[0]  # on white it is not
    assert client.get("/brand/logo").status_code == 404


def test_the_pages_speak_portuguese_when_the_browser_does(stage):
    page = browser(stage.people["owner"]).get("/tenants/", headers={"Accept-Language": "pt-BR"}).content.decode()
    assert '<html lang="pt-br">' in page
    assert "Filtrar" in page


def test_health_says_since_when_it_is_so(stage):
    Tenant.objects.filter(pk=stage.tenant.pk).update(health_at="2026-11-20T08:15:00Z")
    boss = browser(stage.people["super-admin"])
    for path in (f"/admin/tenants/tenant/{stage.tenant.pk}/change/", table.of(stage.tenant, "overview")):
        assert "since 2026-11-20 08:15 UTC" in boss.get(path).content.decode()


def test_a_key_that_is_not_there_is_not_offered_for_removal(stage):
    manager, path = browser(stage.people["manager"]), table.of(stage.tenant, "configuration")
    assert 'name="remove_key"' not in manager.get(path).content.decode()
    form = {"provider": "openai", "model": "gpt-test", "provider_key": "sk-0123456789abcdef", "extra_config": "{}"}
    manager.post(path, {**form, "do": "save"})
    assert 'name="remove_key"' in manager.get(path).content.decode()


def test_a_rollback_shows_extra_options_as_they_are_typed(stage):
    manager, path = browser(stage.people["manager"]), table.of(stage.tenant, "configuration")
    manager.post(path, {"extra_config": '{"faults": {"exit_code": 3}}', "do": "save"})
    shown = manager.get(table.of(stage.tenant, "rollback", 2)).content.decode()
    assert "{&quot;faults&quot;: {&quot;exit_code&quot;: 3}}" in shown


def test_the_audit_names_people_and_things_and_shows_no_id(stage):
    text = browser(stage.people["owner"]).get(table.of(stage.tenant, "audit")).content.decode()
    rows = text[text.index("<tbody>") : text.index("</tbody>")]
    assert ">operator</td>" in rows
    assert "Memory is short" in rows
    assert not re.search(r"[0-9a-f]{8}-?[0-9a-f]{4}", rows)
    assert "***" not in rows


def test_every_page_of_a_suspended_tenant_says_why_it_is_held(stage):
    stage.world.drive(services.suspend(actor=OPERATOR, tenant=stage.tenant, note="invoice of October"))
    viewer = browser(stage.people["viewer"])
    for name in ("overview", "usage", "state"):
        text = viewer.get(table.of(stage.tenant, name)).content.decode()
        assert text.count("invoice of October") == 1, name
    stage.world.drive(services.reactivate(actor=OPERATOR, tenant=stage.tenant))
    assert "invoice of October" not in viewer.get(table.of(stage.tenant, "usage")).content.decode()


def test_a_configuration_older_than_its_history_has_an_empty_one(stage):
    stage.tenant.revisions.all().delete()
    answer = browser(stage.people["viewer"]).get(table.of(stage.tenant, "history"))
    assert answer.status_code == 200
    assert "No change yet" in answer.content.decode()
