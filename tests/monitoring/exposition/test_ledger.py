"""Sums over runs: whoever adds them up, and in whatever order they ended, the result is that of the rows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.exposition.ledger import BUCKETS_S, Histogram, Ledger
from tenants.models import Run, StepRecord, Tenant
from tests.factories import RunFactory, TenantFactory
from zcplatform.lib import clock

pytestmark = pytest.mark.django_db


def ended(tenant, *, ago_s=0, took_s=1.0, status="succeeded", **fields):
    at = clock.now() - timedelta(seconds=ago_s)
    run = RunFactory(tenant=tenant, status=status, **fields)
    Run.objects.filter(pk=run.pk).update(created_at=at, started_at=at, finished_at=at + timedelta(seconds=took_s))
    StepRecord.objects.create(
        run=run, position=1, name="create", status="done", started_at=at, finished_at=at + timedelta(seconds=took_s / 2)
    )
    return run


def plain(totals):
    return (
        dict(totals.outcomes),
        {name: (h.counts, round(h.seconds, 6)) for name, h in totals.runs.items()},
        {name: (h.counts, round(h.seconds, 6)) for name, h in totals.steps.items()},
    )


def test_outcomes_and_durations_are_counted(tenant):
    ended(tenant, took_s=0.4)
    ended(tenant, took_s=40, status="failed")
    ended(tenant, took_s=4, kind="stop")
    totals = Ledger().totals()
    assert totals.outcomes == {("provision", "succeeded"): 1, ("provision", "failed"): 1, ("stop", "succeeded"): 1}
    assert totals.runs["provision"].seconds == pytest.approx(40.4)
    assert dict(totals.runs["provision"].buckets())["0.5"] == 1
    assert totals.runs["provision"].buckets()[-1] == ("+Inf", 2)
    assert sum(totals.steps["create"].counts) == 3


def test_a_run_under_way_counts_when_it_ends_even_behind_settled_ones(tenant):
    ledger = Ledger()
    open_one = RunFactory(tenant=tenant, status="running")
    Run.objects.filter(pk=open_one.pk).update(created_at=clock.now() - timedelta(days=1))
    ended(TenantFactory(), ago_s=7_200)
    assert sum(ledger.totals().outcomes.values()) == 1
    Run.objects.filter(pk=open_one.pk).update(status="failed", finished_at=clock.now())
    assert ledger.totals().outcomes["provision", "failed"] == 1
    assert plain(ledger.totals()) == plain(Ledger().totals())


def test_what_is_settled_is_read_once(tenant, django_assert_num_queries):
    ledger = Ledger()
    for _ in range(5):
        ended(tenant, ago_s=7_200)
    ledger.totals()
    StepRecord.objects.all().delete()
    Run.objects.filter(pk=Run.objects.order_by("-pk").first().pk).update(status="failed")
    assert plain(ledger.totals())[0] == {("provision", "succeeded"): 5}
    with django_assert_num_queries(6):
        ledger.totals()


def test_a_restored_database_is_counted_from_the_beginning(tenant):
    ledger = Ledger()
    for _ in range(3):
        ended(tenant, ago_s=7_200)
    ledger.totals()
    Run.objects.all().delete()
    assert plain(ledger.totals()) == ({}, {}, {})


def test_r9_a_clock_that_was_put_back_makes_no_negative_duration():
    histogram = Histogram()
    histogram.add(clock.now(), clock.now() - timedelta(hours=1))
    assert (histogram.seconds, histogram.counts[0]) == (0, 1)


@given(st.lists(st.floats(0, 5_000), max_size=40))
def test_buckets_are_cumulative_and_hold_everything(durations):
    histogram, now = Histogram(), clock.now()
    for seconds in durations:
        histogram.add(now, now + timedelta(seconds=seconds))
    values = [count for _, count in histogram.buckets()]
    assert values == sorted(values) and values[-1] == len(durations)
    for edge, count in zip(BUCKETS_S, values, strict=False):
        assert count == sum(round(seconds, 6) <= edge for seconds in durations)


acts = st.lists(st.tuples(st.sampled_from(["open", "end", "settle", "look"]), st.integers(0, 9)), max_size=15)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts)
def test_processes_that_looked_at_different_times_agree(db, acts):
    Run.objects.all().delete()
    Tenant.objects.all().delete()
    early, opened = Ledger(), []
    for what, number in acts:
        if what == "open":
            opened.append(RunFactory(tenant=TenantFactory(), status="running").pk)
        elif what == "end" and opened:
            pk = opened.pop(number % len(opened))
            Run.objects.filter(pk=pk).update(status="succeeded", finished_at=clock.now())
        elif what == "settle":
            young = Run.objects.filter(created_at__gt=clock.now() - timedelta(minutes=30))
            young.update(created_at=clock.now() - timedelta(hours=1))
        else:
            early.totals()
    assert plain(early.totals()) == plain(Ledger().totals())
