"""The resource sweep: what lies between two readings, gaps, lives, the host, and the hours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import host, queries, series
from monitoring.alerting.metrics import fleet as fleet_metrics
from monitoring.collectors import resources, retention
from monitoring.models import HostSnapshot, ResourceCounter, ResourceHour, ResourceSnapshot, Sweep
from tenants.records import UsageHour
from tenants.runtimes.base import Reading
from tests.factories import TenantFactory
from zcplatform.lib import clock

READING = Reading("life", 5_000_000, 7_000_000, 256 * 1_048_576, 100, 200, 3)


def before(read_us=0, life="life", cpu_us=0, net_in=0, net_out=0):
    return ResourceCounter(life=life, read_us=read_us, cpu_us=cpu_us, net_in=net_in, net_out=net_out)


@pytest.fixture
def minutes(monkeypatch):
    """The host's monotonic clock, in minutes."""
    now = [1_000]
    monkeypatch.setattr(resources.time, "monotonic_ns", lambda: now[0] * 60_000_000_000)
    return now


def test_a_sixtieth_of_a_minute_of_cpu_is_a_sixtieth_of_a_core():
    found = resources.used(before(cpu_us=4_000_000), READING, 60_000_000)
    assert found == resources.Used(cpu_mpct=1_666, net_in=100, net_out=200)


@pytest.mark.parametrize(
    ("known", "read_us"),
    [(None, 60_000_000), (before(read_us=None), 60_000_000), (before(read_us=90_000_000), 100)],
    ids=["first", "never-read", "r9-host-started-anew"],
)
def test_what_cannot_be_told_is_a_gap(known, read_us):
    assert resources.used(known, READING, read_us) == resources.Used()


def test_a_reading_right_after_another_has_no_share_of_the_cpu_but_its_bytes():
    assert resources.used(before(), READING, 500_000) == resources.Used(None, 100, 200)
    assert resources.used(before(), READING, 0) == resources.Used(None, 100, 200)


def test_a_new_life_counts_from_zero_and_what_a_runtime_does_not_know_stays_unknown():
    known = before(life="former", cpu_us=9_000_000, net_in=10, net_out=900)
    assert resources.used(known, READING, 60_000_000) == resources.Used(8_333, 100, 200)
    without = replace(READING, net_in=None, net_out=None)
    assert resources.used(before(), without, 60_000_000) == resources.Used(8_333, None, None)


def test_a_counter_that_goes_back_is_a_new_life_only_where_lives_have_no_names():
    known = before(life="", cpu_us=9_000_000)
    assert resources.used(known, replace(READING, life=""), 60_000_000).cpu_mpct == 8_333
    assert resources.used(before(cpu_us=9_000_000), READING, 60_000_000).cpu_mpct == 0


# A reading is of a new life, of the same, or comes at once after the one before; clocks may jump in between.
readings = st.lists(
    st.tuples(
        st.sampled_from(["same", "same", "new life", "at once"]), st.integers(0, 10**9), st.integers(-3_600, 3_600)
    ),
    max_size=40,
)


@given(readings)
def test_bytes_over_any_sequence_of_lives_are_neither_lost_nor_doubled(steps):
    life, counter, moved, told, read_us = 0, 0, 0, 0, 0
    known = before(read_us=0, life="0")
    for what, amount, _ in steps:
        life, counter = (life + 1, 0) if what == "new life" else (life, counter)
        counter, moved = counter + amount, moved + amount
        read_us += 1_000 if what == "at once" else 60_000_000
        now = replace(READING, life=str(life), net_in=counter)
        told += resources.used(known, now, read_us).net_in or 0
        known = before(read_us, str(life), READING.cpu_us, counter, READING.net_out)
    assert told == moved


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings)
def test_r9_nor_are_they_in_the_rows_and_hours_whatever_the_clock_does(db, monkeypatch, steps):
    """Whole turns: two that fall into the same second, as after a clock was put back, are one row with both."""
    with transaction.atomic():
        tenant = TenantFactory(status="running", slot=0, port=21_001, uid=200_000, handle={"runtime": "x", "id": "x"})
        ts, life, counter, moved, now_us = 1_700_000_000, 0, 0, 0, 0
        for number, (what, amount, jump) in enumerate([("same", 0, 0), *steps]):
            life, counter = (life + 1, 0) if what == "new life" else (life, counter)
            counter, moved = counter + amount, moved + amount
            now_us += 1_000 if what == "at once" else 60_000_000
            # Every third jump leads to a second in which there was a turn before.
            ts = 1_700_000_000 if number % 3 == 2 else ts + 60 + jump
            reading = replace(READING, life=str(life), net_in=counter)
            found = 1, [resources.Measured(tenant.pk, 100, reading)], now_us
            monkeypatch.setattr(resources, "_measure", lambda found=found: found)
            with clock.use(lambda at=ts: clock_at(at)):
                resources.sweep()
        seen = ResourceSnapshot.objects.values_list("ts", "net_in")
        assert sum(net or 0 for _, net in seen) == moved
        for hour in {series.hour_of(at) for at, _ in seen}:
            series.roll_up(hour, [tenant.pk])
        assert sum(net or 0 for net in ResourceHour.objects.values_list("net_in", flat=True)) == moved
        transaction.set_rollback(True)


def test_the_first_turn_has_no_shares_and_the_second_has(world, minutes):
    tenant = world.tenant(deploy=True)
    agent = world.agents()[0]
    agent.reading = READING
    resources.sweep()
    first = ResourceSnapshot.objects.get()
    assert (first.cpu_mpct, first.net_in, first.mem_bytes, first.pids) == (None, None, 7_000_000, 3)
    assert (first.cpu_limit_pct, first.disk_bytes) == (100, None)
    minutes[0] += 1
    agent.reading = replace(READING, cpu_us=35_000_000, net_in=150)
    with clock.use(lambda: clock_at(first.ts + 60)):
        resources.sweep()
    second = ResourceSnapshot.objects.get(ts=first.ts + 60)
    assert (second.tenant_id, second.cpu_mpct, second.net_in, second.net_out) == (tenant.pk, 50_000, 50, 0)
    assert ResourceCounter.objects.get().net_in == 150
    assert HostSnapshot.objects.count() == 2


def clock_at(ts):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts, UTC)


def test_r9_a_clock_that_jumps_an_hour_either_way_loses_and_doubles_nothing(world, minutes):
    world.tenant(deploy=True)
    agent, ts = world.agents()[0], 1_700_000_000
    for number, jump in enumerate((0, 60, 3_720, 120, 180, 240)):
        minutes[0] += 1
        agent.reading = replace(READING, net_in=1_000 + 10 * number)
        with clock.use(lambda at=ts + jump: clock_at(at)):
            resources.sweep()
    rows = ResourceSnapshot.objects.exclude(net_in=None)
    assert sum(rows.values_list("net_in", flat=True)) == 50
    assert max(rows.values_list("cpu_mpct", flat=True)) == 0


def test_r9_what_was_written_while_the_clock_was_ahead_is_not_the_present(world, minutes):
    tenant = world.tenant(deploy=True)
    agent, ts = world.agents()[0], 1_700_000_000
    for shift, memory in ((0, 1), (3_600, 2), (60, 3)):
        minutes[0] += 1
        agent.reading = replace(READING, mem_bytes=memory)
        with clock.use(lambda at=ts + shift: clock_at(at)):
            resources.sweep()
    with clock.use(lambda: clock_at(ts + 60)):
        assert queries.latest()[tenant.pk]["mem_bytes"] == 3
        assert queries.now_of(world.fresh(tenant))["resources"]["mem_bytes"] == 3
        assert queries.host()["at"] == HostSnapshot.objects.newest().ts == ts + 60
        assert fleet_metrics._host().ts == ts + 60, "or no alert about the host for an hour"
    assert HostSnapshot.objects.get(ts=ts + 60).cpu_mpct is not None


def test_two_turns_in_the_same_second_are_one_row(world, minutes):
    world.tenant(deploy=True)
    with clock.use(lambda: clock_at(1_700_000_000)):
        resources.sweep()
        resources.sweep()
    assert ResourceSnapshot.objects.count() == HostSnapshot.objects.count() == 1


def test_r4_an_engine_that_is_down_is_a_gap_and_not_a_zero(world, minutes):
    world.tenant(deploy=True)
    world.use("DownRuntime")
    assert resources.sweep().failures == 1
    assert not ResourceSnapshot.objects.exists()
    assert HostSnapshot.objects.exists()


def test_what_does_not_run_has_no_row(world, minutes):
    world.tenant(deploy=True)
    world.agents()[0].end()
    assert resources.sweep().failures == 1
    assert not ResourceSnapshot.objects.exists()


def test_an_overtaken_turn_writes_nothing(world, minutes, monkeypatch):
    world.tenant(deploy=True)
    original = resources._measure

    def overtaken():
        Sweep.objects.update(epoch=99)
        return original()

    monkeypatch.setattr(resources, "_measure", overtaken)
    assert resources.sweep() is None
    assert not ResourceSnapshot.objects.exists() and not ResourceCounter.objects.exists()


# --- the host -----------------------------------------------------------------------------------------------


def test_the_hosts_figures_are_read_as_the_kernel_writes_them(tmp_path):
    (tmp_path / "stat").write_text("cpu  100 10 50 800 40 0 0 5 7 0\ncpu0 1 2 3\n")
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  400 kB\n")
    assert host.cpu_us(tmp_path) == (165 * host.TICK_US, 1_005 * host.TICK_US)
    assert host.memory_bytes(tmp_path) == (600 * 1_024, 1_000 * 1_024)


def test_the_hosts_cpu_is_a_share_of_the_time_between(db):
    first = host.snapshot(0, None)
    assert first.cpu_mpct is None
    first.cpu_busy_us, first.cpu_total_us = 0, 0
    assert 0 < host.snapshot(60, first).cpu_mpct <= 100_000
    first.cpu_total_us = 2**62
    assert host.snapshot(60, first).cpu_mpct is None, "the host was started anew"
    assert 0 < first.mem_bytes < first.mem_total and 0 < first.disk_bytes <= first.disk_total


# --- hours and retention ------------------------------------------------------------------------------------

HOUR = 1_700_000_000 // 3_600 * 3_600


def add(tenant, ts, **values):
    return ResourceSnapshot.objects.create(tenant=tenant, ts=ts, **values)


def test_an_hour_is_summed_up_over_what_is_known(tenant):
    add(tenant, HOUR - 1, cpu_mpct=99_000)
    add(tenant, HOUR, cpu_mpct=1_000, mem_bytes=10, net_in=5, pids=2, disk_bytes=7)
    add(tenant, HOUR + 60, cpu_mpct=None, mem_bytes=30, net_in=None, pids=4, disk_bytes=9)
    add(tenant, HOUR + 3_600, cpu_mpct=99_000)
    for _ in range(2):
        series.roll_up(HOUR, [tenant.pk])
    row = ResourceHour.objects.get()
    assert (row.ts, row.samples, row.cpu_mpct_avg, row.cpu_mpct_max) == (HOUR, 2, 1_000, 1_000)
    assert (row.mem_bytes_avg, row.mem_bytes_max, row.net_in, row.net_out) == (20, 30, 5, None)
    assert (row.pids_max, row.disk_bytes) == (4, 9)


def test_an_hour_without_a_snapshot_is_a_gap(tenant):
    series.roll_up(HOUR, [tenant.pk])
    assert not ResourceHour.objects.exists()


def test_hours_that_were_missed_are_made_up_for(tenant):
    for number in range(5):
        add(tenant, HOUR + number * 3_600, mem_bytes=number)
    with clock.use(lambda: clock_at(HOUR + 4 * 3_600 + 100)):
        retention.roll_up()
        assert ResourceHour.objects.count() == 2, "the present hour and the one before"
        Sweep.objects.update(finished_at=clock_at(HOUR + 1_800))
        retention.roll_up()
    assert ResourceHour.objects.count() == 5


class Deletes:
    """What is deleted: how many rows by each statement, and whether each of a tenant's was its own transaction."""

    def __init__(self):
        self.rows, self.alone = [], True

    def __call__(self, execute, sql, params, many, context):
        found = execute(sql, params, many, context)
        if sql.startswith("DELETE"):
            self.rows.append(context["cursor"].rowcount)
            self.alone &= "host" in sql or not context["connection"].in_atomic_block
        return found


def test_m8_pruning_takes_what_is_old_in_small_steps_and_nothing_else(transactional_db, monkeypatch):
    monkeypatch.setattr(series, "BATCH", 10)
    now, tenants = HOUR, [TenantFactory() for _ in range(3)]
    keep = now - series.RAW_DAYS * series.DAY_S
    for tenant in tenants[:2]:
        ResourceSnapshot.objects.bulk_create(
            ResourceSnapshot(tenant=tenant, ts=keep + shift) for shift in range(-25, 3)
        )
        for days in (399, 401):
            UsageHour.objects.create(tenant=tenant, period_start=now - days * series.DAY_S)
            ResourceHour.objects.create(tenant=tenant, ts=now - days * series.DAY_S, samples=1)
    add(tenants[2], keep)
    HostSnapshot.objects.create(ts=keep - 1, mem_bytes=1, mem_total=1, disk_bytes=1, disk_total=1)
    deletes = Deletes()
    with clock.use(lambda: clock_at(now)), connection.execute_wrapper(deletes):
        retention.prune()
    kept = [*[keep, keep + 1, keep + 2] * 2, keep]
    assert sorted(ResourceSnapshot.objects.values_list("ts", flat=True)) == sorted(kept)
    assert UsageHour.objects.count() == 2 and not ResourceHour.objects.exists()
    assert not HostSnapshot.objects.exists()
    assert Sweep.objects.get(name="prune").items == 50 + 2 + 4 + 1
    # Between two steps anybody may write; and there is none for a tenant that has nothing old.
    assert deletes.alone and deletes.rows == [10, 10, 5] * 2 + [2] * 2 + [1] * 2 + [1]


@pytest.mark.parametrize("statement", [old.delete for old in series.OLD], ids=lambda text: text.split()[2])
def test_a_step_of_pruning_walks_over_the_rows_of_one_tenant_only(db, statement):
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", [1, 1, HOUR, 500])
        steps = [row[3] for row in cursor.fetchall()]
    walks = [step for step in steps if step.startswith(("SCAN", "SEARCH"))]
    assert sum("USING PRIMARY KEY (tenant_id=? AND" in step for step in walks) == 2, walks
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("days", [1, 365])
def test_r9_a_clock_far_ahead_for_a_moment_empties_nothing(db, days):
    """It takes a little of the oldest, no more. What is really due goes, turn by turn."""
    tenant, day = TenantFactory(), series.DAY_S
    ResourceSnapshot.objects.bulk_create(ResourceSnapshot(tenant=tenant, ts=HOUR - n * day // 4) for n in range(28))
    HostSnapshot.objects.bulk_create(
        HostSnapshot(ts=HOUR - n * day // 4, mem_bytes=1, mem_total=1, disk_bytes=1, disk_total=1) for n in range(28)
    )
    for number in range(366):
        ResourceHour.objects.create(tenant=tenant, ts=HOUR - number * day, samples=1)
        UsageHour.objects.create(tenant=tenant, period_start=HOUR - number * day)
    series.prune(HOUR + days * day, usage_days=400)
    assert ResourceSnapshot.objects.count() >= 28 - 4 * 2
    assert min(ResourceHour.objects.count(), UsageHour.objects.count()) >= 366 - 45
    assert HostSnapshot.objects.count() >= 28 - 4 * 2
    for _ in range(10):
        series.prune(HOUR + 2_000 * day, usage_days=400)
    assert not any(model.objects.exists() for model in (ResourceSnapshot, ResourceHour, UsageHour, HostSnapshot))
