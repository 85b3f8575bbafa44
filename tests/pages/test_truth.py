"""What a page shows is so: no green for what does not answer, no act preset that nobody meant."""

from __future__ import annotations

from datetime import timedelta

from monitoring.models import HostSnapshot
from tenants import last_words, services
from tenants.models import Plan, Run, Tenant
from tenants.secrets import reveal_all
from tests.factories import PlanFactory
from tests.pages import table
from tests.pages.conftest import browser
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, SYSTEM
from zcplatform.pages import fleet


def silent(stage):
    Tenant.objects.filter(pk=stage.tenant.pk).update(health="failing", health_at=clock.now() - timedelta(minutes=5))


def test_what_does_not_answer_is_green_nowhere(stage):
    silent(stage)
    boss = browser(stage.people["super-admin"])
    admin = f"/admin/tenants/tenant/{stage.tenant.pk}/change/"
    places = (table.of(stage.tenant, "overview"), table.of(stage.tenant, "state"), "/", "/tenants/?q=acme", admin)
    for path in (*places, "/admin/tenants/tenant/?q=acme"):
        page = boss.get(path).content.decode()
        assert "pill-silent" in page, path
        assert 'pill-running">running' not in page or path == "/", path
    mine = browser(stage.people["owner"]).get("/").content.decode()
    assert "pill-silent" in mine
    assert "pill-running" not in mine
    counts = dict(boss.get("/").context["counts"])
    assert (counts["running"], counts["not answering"]) == (0, 1)


def test_the_list_finds_what_it_shows(stage):
    silent(stage)
    boss = browser(stage.people["super-admin"])
    found = {
        status: boss.get("/tenants/", {"status": status}).content.decode() for status in ("running", "not answering")
    }
    assert "/tenants/acme/" in found["not answering"]
    assert "/tenants/acme/" not in found["running"]


def test_resize_begins_with_the_present_plan_and_changes_nothing_by_itself(stage):
    PlanFactory(slug="tiny", memory_limit_mb=128)
    owner, path = browser(stage.people["owner"]), table.of(stage.tenant, "act", "resize")
    plan = stage.tenant.plan
    assert f'<option value="{plan.pk}" selected>' in owner.get(path).content.decode()
    refused = owner.post(path, {"plan": plan.pk})
    assert refused.status_code == 422
    assert "This is its plan already" in refused.content.decode()
    assert Plan.objects.order_by("memory_limit_mb").first() != plan


def test_nobody_is_preset_as_the_new_owner(stage):
    owner, path = browser(stage.people["owner"]), table.of(stage.tenant, "transfer")
    assert '<option value="" selected>' in owner.get(path).content.decode()
    assert owner.post(path, {"typed": "acme"}).status_code == 422
    assert stage.tenant.members.get(role="owner").user == stage.people["owner"]


def test_who_is_sent_to_the_logs_finds_the_last_lines_of_an_agent_that_is_gone(stage):
    last_words.save(stage.tenant, "no such model\n")
    Tenant.objects.filter(pk=stage.tenant.pk).update(status="error", reason="unhealthy", handle=None)
    Run.objects.filter(pk=stage.run.pk).update(status="failed", reason="unhealthy", error="It did not answer.")
    owner = browser(stage.people["owner"])
    assert "Read the logs" in owner.get(table.of(stage.tenant, "overview")).content.decode()
    for path in (table.of(stage.tenant, "logs"), f"/runs/{stage.run.public_id}"):
        assert "no such model" in owner.get(path).content.decode(), path


def test_what_the_platform_reads_by_itself_fills_no_page(stage):
    owner, boss = browser(stage.people["owner"]), browser(stage.people["super-admin"])
    services.rename(actor=OPERATOR, tenant=stage.tenant, name="Renamed")
    for _ in range(60):
        reveal_all(stage.tenant, actor=SYSTEM, why="start")
    shown = owner.get(table.of(stage.tenant, "overview")).content.decode()
    assert "Secret read" not in shown
    assert "Tenant changed" in shown
    admin = boss.get(f"/admin/tenants/tenant/{stage.tenant.pk}/change/").content.decode()
    assert "Secret read" not in admin
    trail = owner.get(table.of(stage.tenant, "audit")).content.decode()
    assert trail.count("Secret read") == 1
    assert "times in a row" in trail
    reveal_all(stage.tenant, actor=stage.people["owner"].as_actor(), why="test")  # a person's is told
    assert "Secret read" in owner.get(table.of(stage.tenant, "overview")).content.decode()


def test_capacity_names_what_it_foretells_and_waits_for_a_day_of_data(stage):
    Plan.objects.update(memory_limit_mb=2_048)
    HostSnapshot.objects.create(
        ts=int(clock.now().timestamp()), mem_bytes=2**30, mem_total=8 * 2**30, disk_bytes=1, disk_total=10
    )
    young = fleet.capacity()
    assert young.forecast == ""
    assert [bar.label for bar in young.bars] == ["Slots", "Memory promised", "Memory in use", "Disk"]
    assert (young.bars[1].used, young.bars[1].limit) == ("2.0 GB", "8.0 GB")
    assert young.bars[2].used == "1.0 GB"
    Tenant.objects.update(created_at=clock.now() - timedelta(days=4))
    assert fleet.capacity().forecast == "All memory is promised in about 12 days, at the pace of the last 4 d."
