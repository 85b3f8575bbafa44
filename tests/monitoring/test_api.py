"""The routes of monitoring: who may, what they say, gaps as nulls, and no more than 300 points."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from accounts.rates import permits
from audit.models import AuditEntry
from monitoring import charts
from monitoring.models import HostSnapshot, ResourceCounter, ResourceHour, ResourceSnapshot, Sweep, UsageCounter
from tenants import usage
from tenants.models import Tenant
from tenants.states import Health, Status
from tests.accounts.conftest import Api, access_token, key_of
from tests.factories import MemberFactory, TenantFactory
from zcplatform.lib import clock

NOW = datetime(2026, 3, 10, 12, 30, 30, tzinfo=UTC)
TS = int(NOW.timestamp())
FLEET = ["dashboard", "health", "resources", "usage", "audit"]
OF_TENANT = ["resources", "usage", "metrics"]


@pytest.fixture(autouse=True)
def _no_permits_left_over():
    permits.clear()


@pytest.fixture
def as_root(super_admin):
    return Api(access_token(super_admin))


@pytest.fixture
def viewer(tenant):
    return Api(access_token(MemberFactory(tenant=tenant, role="viewer").user))


def at(moment=NOW):
    return clock.use(lambda: moment)


def snapshot(tenant, ts=TS - 30, **values):
    return ResourceSnapshot.objects.create(tenant=tenant, ts=ts, **values)


@pytest.mark.parametrize("path", FLEET)
def test_c1_the_fleet_is_the_super_admins(as_root, tenant, owner, path):
    assert as_root.get(f"monitoring/{path}").status_code == 200
    refused = Api(access_token(owner)).get(f"monitoring/{path}")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "forbidden")
    assert Api("nothing").get(f"monitoring/{path}").status_code == 401
    assert AuditEntry.objects.filter(action="access.denied", outcome="denied").count() == 1


@pytest.mark.parametrize("path", OF_TENANT)
def test_c1_c2_a_tenant_is_its_members(as_root, tenant, owner, viewer, stranger, path):
    for api in (as_root, viewer, Api(access_token(owner))):
        assert api.get(f"tenants/{tenant.public_id}/{path}").status_code == 200
    outside = Api(access_token(stranger))
    theirs, nobodys = (outside.get(f"tenants/{i}/{path}") for i in (tenant.public_id, uuid.uuid4()))
    assert theirs.status_code == nobodys.status_code == 404
    errors = [answer.json()["error"] for answer in (theirs, nobodys)]
    assert errors[0].pop("request_id") != errors[1].pop("request_id")
    assert errors[0] == errors[1]


def test_a_key_that_only_reads_may_look(super_admin, tenant):
    api = Api(key_of(super_admin, "read"))
    assert api.get("monitoring/dashboard").status_code == 200
    assert api.get(f"tenants/{tenant.public_id}/metrics").status_code == 200


@pytest.mark.parametrize("query", ["range=100y", "range=", "range=1h&range=x", "tail=1", "range=24H"])
def test_m5_an_unknown_range_is_refused(viewer, tenant, query):
    assert viewer.get(f"tenants/{tenant.public_id}/resources?{query}").status_code == 422


def test_the_fleet_in_figures(as_root, tenant):
    running = TenantFactory(status=Status.RUNNING, health=Health.FAILING, slot=1, port=21_002, uid=200_001)
    TenantFactory(status=Status.DELETED)
    Sweep.objects.create(name="health", duration_ms=12, lag_ms=0, items=2)
    with at():
        HostSnapshot.objects.create(
            ts=TS - 60, cpu_mpct=12_345, mem_bytes=1, mem_total=4, disk_bytes=81, disk_total=100
        )
        found = as_root.get("monitoring/dashboard").json()
    assert found["tenants"]["total"] == 2
    assert (found["tenants"]["draft"], found["tenants"]["running"], found["tenants"]["error"]) == (1, 1, 0)
    assert found["health"] == {"ok": 0, "failing": 1, "unknown": 0}
    [node] = found["nodes"]
    assert (node["slots_used"], node["slots"] - node["slots_free"]) == (1, 1)
    assert (found["host"]["cpu_pct"], found["host"]["disk_pct"]) == (12.345, 81.0)
    assert [(s["name"], s["duration_ms"], s["items"]) for s in found["sweeps"]] == [("health", 12, 2)]
    assert running.slug not in str(found), "figures, no names"


def test_a_host_that_was_not_looked_at_lately_is_not_told_of(as_root):
    HostSnapshot.objects.create(ts=TS - 600, mem_bytes=1, mem_total=4, disk_bytes=81, disk_total=100)
    with at():
        assert as_root.get("monitoring/dashboard").json()["host"] is None


def test_health_is_a_bare_array_of_all_tenants(as_root, tenant, django_assert_max_num_queries):
    since = NOW - timedelta(hours=2)
    up = TenantFactory(slug="a-first", status=Status.RUNNING, health=Health.OK, running_since=since)
    TenantFactory(slug="b-second", status=Status.ERROR, reason="oom_killed", detail="too small", health=Health.FAILING)
    with at(), django_assert_max_num_queries(12):
        found = as_root.get("monitoring/health").json()
    assert [row["slug"] for row in found] == ["a-first", "b-second", tenant.slug]
    assert (found[0]["id"], found[0]["status"], found[0]["uptime_s"]) == (str(up.public_id), "running", 7_200)
    assert [row["slug"] for row in found if row["status"] == "error"] == ["b-second"]
    assert (found[1]["reason"], found[1]["uptime_s"]) == ("oom_killed", None)


def test_the_newest_fresh_sample_of_each_tenant_and_the_sums(as_root, tenant):
    second, stale = TenantFactory(slug="second"), TenantFactory(slug="stale")
    snapshot(tenant, TS - 90, cpu_mpct=99_000, mem_bytes=99)
    snapshot(tenant, TS - 30, cpu_mpct=1_500, mem_bytes=10, mem_limit=100, pids=2)
    snapshot(second, TS - 60, cpu_mpct=None, mem_bytes=5, pids=1)
    snapshot(stale, TS - 3_600, mem_bytes=1_000)
    with at():
        found = as_root.get("monitoring/resources").json()
    by_slug = {item["slug"]: item["resources"] for item in found["items"]}
    assert (by_slug[tenant.slug]["cpu_pct"], by_slug[tenant.slug]["mem_bytes"]) == (1.5, 10)
    assert by_slug["second"]["cpu_pct"] is None and by_slug["stale"] is None
    assert found["totals"] == {
        "tenants": 2, "cpu_pct": 1.5, "mem_bytes": 15, "disk_bytes": 0, "net_in": 0, "net_out": 0, "pids": 3
    }  # fmt: skip


def test_pages_of_the_fleet_are_whole(as_root, db):
    for number in range(5):
        TenantFactory(slug=f"tenant-{number:03}")
    slugs, cursor = [], ""
    while cursor is not None:
        answer = as_root.get(f"monitoring/usage?limit=2{cursor and f'&cursor={cursor}'}").json()
        slugs += [item["slug"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert slugs == [f"tenant-{number:03}" for number in range(5)]


def test_usage_stands_beside_the_plan_and_what_was_not_counted_is_null(as_root, viewer, tenant):
    ResourceCounter.objects.create(tenant=tenant, disk_bytes=512 * 1_048_576)
    with at():
        usage.add(tenant.pk, messages_in=2_500, messages_out=7)
        [item] = as_root.get("monitoring/usage").json()["items"]
        own = viewer.get(f"tenants/{tenant.public_id}/usage?range=24h").json()
    assert own["quotas"] == item["quotas"]
    messages, tokens, disk = item["quotas"]
    assert (messages["used"], messages["limit"], messages["share"]) == (2_500, 10_000, 0.25)
    assert (tokens["used"], tokens["share"], tokens["limit"]) == (None, None, 10_000_000)
    assert (disk["share"], disk["resets_at"]) == (0.05, None)
    assert (len(own["ts"]), own["messages_in"][-1], own["messages_in"][0]) == (24, 2_500, None)
    assert set(own["tokens_in"]) == {None}


def test_days_are_sums_of_hours(viewer, tenant):
    for hours in (0, 1, 30):
        with at(NOW - timedelta(hours=hours)):
            usage.add(tenant.pk, messages_in=10)
    with at():
        found = viewer.get(f"tenants/{tenant.public_id}/usage?range=30d").json()
    assert (len(found["ts"]), found["step_s"]) == (30, 86_400)
    assert found["messages_in"][-2:] == [10, 20]


@pytest.mark.parametrize(("span", "points"), [("1h", 60), ("6h", 180), ("24h", 288), ("7d", 168)])
def test_a_chart_has_at_most_300_points_at_even_distances_that_end_now(viewer, tenant, span, points):
    with at():
        found = viewer.get(f"tenants/{tenant.public_id}/resources?range={span}").json()
    assert len(found["ts"]) == points <= 300
    assert {b - a for a, b in zip(found["ts"], found["ts"][1:], strict=False)} == {found["step_s"]}
    assert found["ts"][-1] <= TS < found["ts"][-1] + found["step_s"]
    assert all(len(found[name]) == points and set(found[name]) == {None} for name in charts.COLUMNS)


def test_a_step_sums_the_network_and_takes_the_mean_of_the_rest(viewer, tenant):
    base = TS // 300 * 300 - 300
    snapshot(tenant, base, cpu_mpct=1_000, mem_bytes=10, net_in=5, net_out=None, pids=2, mem_limit=7)
    snapshot(tenant, base + 60, cpu_mpct=None, mem_bytes=30, net_in=6, net_out=1, pids=4, mem_limit=7)
    snapshot(tenant, base + 299, cpu_mpct=3_000, mem_bytes=20, net_in=None, net_out=2, pids=3, mem_limit=9)
    with at():
        found = viewer.get(f"tenants/{tenant.public_id}/resources?range=24h").json()
    point = {name: found[name][found["ts"].index(base)] for name in charts.COLUMNS}
    assert (point["cpu_pct"], point["mem_bytes"], point["net_in"], point["net_out"]) == (2.0, 20, 11, 3)
    assert (point["pids"], point["mem_limit"], point["disk_bytes"]) == (4, 9, None)
    assert found["cpu_pct"].count(None) == 287, "what was not measured is a gap, not a zero"


def test_a_week_is_drawn_from_the_hours(viewer, tenant):
    hour = TS // 3_600 * 3_600 - 7_200
    ResourceHour.objects.create(tenant=tenant, ts=hour, samples=60, cpu_mpct_avg=2_500, mem_bytes_avg=8, pids_max=3)
    with at():
        found = viewer.get(f"tenants/{tenant.public_id}/resources?range=7d").json()
    assert (found["cpu_pct"][-3:], found["pids"][-3:]) == ([2.5, None, None], [3, None, None])


def test_a_tenant_at_this_moment(viewer, tenant):
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.RUNNING, running_since=NOW - timedelta(seconds=90))
    snapshot(tenant, mem_bytes=7)
    UsageCounter.objects.create(tenant=tenant, messages_in=4, scraped_at=NOW)
    with at():
        found = viewer.get(f"tenants/{tenant.public_id}/metrics").json()
    assert (found["status"], found["uptime_s"], found["resources"]["mem_bytes"]) == ("running", 90, 7)
    assert (found["counters"]["messages_in"], found["counters"]["tokens_in"]) == (4, None)
    with at(NOW + timedelta(hours=1)):
        assert viewer.get(f"tenants/{tenant.public_id}/metrics").json()["resources"] is None


def test_the_trail_is_filtered_and_read_backwards_page_by_page(as_root, tenant, owner):
    for path in FLEET:
        Api(access_token(owner)).get(f"monitoring/{path}")
    Api(access_token(owner)).get(f"tenants/{uuid.uuid4()}/metrics")
    first = as_root.get("monitoring/audit?action=access.denied&outcome=denied&limit=4").json()
    rest = as_root.get(
        f"monitoring/audit?action=access.denied&outcome=denied&limit=4&cursor={first['next_cursor']}"
    ).json()
    ids = [item["id"] for item in [*first["items"], *rest["items"]]]
    assert len(ids) == 6 and ids == sorted(ids, reverse=True) and rest["next_cursor"] is None
    assert first["items"][0]["detail"] == {"ability": "metrics.view"}
    assert as_root.get(f"monitoring/audit?tenant={tenant.public_id}").json()["items"] == []
    assert as_root.get("monitoring/audit?outcome=maybe").status_code == 422


def test_c12_a_members_answers_hold_nothing_of_another_tenant(viewer, tenant):
    other = TenantFactory(slug="canary-b", name="Canary")
    snapshot(other, mem_bytes=424_242)
    with at():
        usage.add(other.pk, messages_in=424_242)
        answers = [viewer.get(f"tenants/{tenant.public_id}/{path}").content for path in OF_TENANT]
    assert not any(b"canary" in body or b"424242" in body for body in answers)
