"""Runs, steps and events go after their time; what somebody still asks for stays, and no counter goes down."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from threading import Thread

import pytest
from django.conf import settings
from django.db import connection, transaction

from monitoring import history
from monitoring.collectors import retention
from monitoring.exposition import ledger
from monitoring.exposition.ledger import Ledger
from monitoring.models import RunTotals, Sweep
from tenants.events import emit
from tenants.models import Event, Run, StepRecord
from tests.factories import RunFactory, TenantFactory
from tests.monitoring.exposition.test_ledger import ended, plain
from zcplatform.lib import clock

pytestmark = pytest.mark.django_db
DAY_S = 86_400


def told(tenant, *, days, run=None):
    """An event that is ``days`` old."""
    with transaction.atomic():
        row = emit(tenant, "tenant.status", {"from": "a", "to": "b", "run": str(run.public_id) if run else ""})
    Event.objects.filter(pk=row.pk).update(created_at=clock.now() - timedelta(days=days))
    return row


def prune(days=90, writing=transaction.atomic):
    return history.prune(days=days, writing=writing)


def left(model, *rows):
    return [model.objects.filter(pk=row.pk).exists() for row in rows]


def test_what_is_old_goes_with_its_steps_and_what_is_young_stays(tenant):
    old, young = (ended(tenant, ago_s=days * DAY_S) for days in (91, 89))
    first, second = told(tenant, days=91), told(tenant, days=89)
    ended(tenant, ago_s=1)
    assert prune() == 2
    assert (left(Run, old, young), left(Event, first, second)) == ([False, True], [False, True])
    assert not StepRecord.objects.filter(run_id=old.pk).exists()
    assert StepRecord.objects.filter(run_id=young.pk).exists()


def test_the_last_run_of_each_kind_of_each_tenant_stays(tenant):
    other = TenantFactory()
    deleting = ended(tenant, ago_s=300 * DAY_S, kind="deprovision", params={"purge": True})
    first, last = ended(tenant, ago_s=299 * DAY_S), ended(tenant, ago_s=298 * DAY_S)
    theirs = ended(other, ago_s=299 * DAY_S)
    assert prune() == 1
    assert left(Run, deleting, first, last, theirs) == [True, False, True, True]


@pytest.mark.parametrize("state", ["queued", "running", "parked"])
def test_a_run_that_is_not_over_stays_and_its_events_with_it(tenant, state):
    active = RunFactory(tenant=tenant, status=state, kind="stop")
    Run.objects.filter(pk=active.pk).update(created_at=clock.now() - timedelta(days=200))
    RunFactory(tenant=tenant, status="succeeded", kind="stop")  # so that it is not the last of its kind
    before, during = told(tenant, days=201), told(tenant, days=199, run=active)
    prune()
    assert left(Run, active) == [True]
    assert left(Event, before, during) == [False, True]


def test_a_run_that_a_worker_may_still_be_in_stays(tenant):
    run = ended(tenant, ago_s=200 * DAY_S, status="cancelled")
    Run.objects.filter(pk=run.pk).update(lease_until=clock.now() + timedelta(hours=1))
    ended(tenant)
    prune()
    assert left(Run, run) == [True]


def test_a_run_counts_from_its_end_and_one_without_an_end_from_its_beginning(tenant):
    long = ended(tenant, ago_s=100 * DAY_S, took_s=20 * DAY_S)
    never = ended(tenant, ago_s=100 * DAY_S, status="cancelled")
    Run.objects.filter(pk=never.pk).update(finished_at=None)
    ended(tenant)
    prune()
    assert left(Run, long, never) == [True, False]


def test_it_goes_in_batches_and_each_is_a_transaction(tenant, monkeypatch):
    monkeypatch.setattr(history, "BATCH", 2)
    for _ in range(5):
        ended(tenant, ago_s=95 * DAY_S)
        told(tenant, days=95)
    ended(tenant)
    sizes = []

    @contextmanager
    def writing():
        before = Run.objects.count() + Event.objects.count()
        with transaction.atomic():
            yield
        sizes.append(before - Run.objects.count() - Event.objects.count())

    assert prune(writing=writing) == 10
    assert sizes == [2, 2, 1] * 2


def test_a_clock_far_ahead_for_a_moment_takes_little(tenant):
    for days in range(0, 90, 3):
        ended(tenant, ago_s=days * DAY_S)
        told(tenant, days=days)
    ahead = clock.now() + timedelta(days=10_000)
    with clock.use(lambda: ahead):
        prune()
    assert Run.objects.count() >= 30 - 5 and Event.objects.count() >= 30 - 5


def test_what_stays_for_its_own_reasons_does_not_hold_up_the_rest(tenant):
    """The oldest run is the last of its kind, and the oldest events are of a run under way."""
    ended(tenant, ago_s=4_000 * DAY_S, kind="stop")
    active = RunFactory(tenant=TenantFactory(), status="running")
    Run.objects.filter(pk=active.pk).update(created_at=clock.now() - timedelta(days=4_000))
    told(active.tenant, days=3_999)
    old, event = ended(tenant, ago_s=92 * DAY_S), told(tenant, days=92)
    ended(tenant)
    prune()
    assert (left(Run, old), left(Event, event)) == ([False], [False])


# --- the counters ------------------------------------------------------------------------------------------


def test_no_counter_goes_down_in_a_process_that_runs_nor_in_a_new_one(tenant):
    for days, status in ((300, "failed"), (200, "succeeded"), (100, "succeeded"), (1, "succeeded")):
        ended(tenant, ago_s=days * DAY_S, took_s=days / 10, status=status)
    running = Ledger()
    before = plain(running.totals())
    for _ in range(30):
        prune(days=32)
    assert Run.objects.count() == 1
    assert plain(running.totals()) == plain(Ledger().totals()) == before
    ended(tenant, status="failed")
    assert running.totals().outcomes["provision", "failed"] == 2
    assert plain(running.totals()) == plain(Ledger().totals())


def test_a_batch_that_is_cut_short_is_neither_gone_nor_counted(tenant, monkeypatch):
    monkeypatch.setattr(history, "BATCH", 2)
    for _ in range(4):
        ended(tenant, ago_s=95 * DAY_S)
    ended(tenant)
    before, turns = plain(Ledger().totals()), []

    @contextmanager
    def overtaken_at_the_second():
        turns.append(1)
        with transaction.atomic():
            yield
            if len(turns) == 2:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        prune(writing=overtaken_at_the_second)
    assert (Run.objects.count(), RunTotals.objects.get().number) == (3, 1)
    assert plain(Ledger().totals()) == before
    prune()
    assert plain(Ledger().totals()) == before


def test_rows_that_go_while_they_are_summed_are_counted_once(tenant, monkeypatch):
    for days in (200, 150, 1):
        ended(tenant, ago_s=days * DAY_S)
    before, add, done = plain(Ledger().totals()), ledger._add, []

    def add_and_prune(totals, which):
        if not done:
            done.append(1)
            prune(days=32)
        add(totals, which)

    monkeypatch.setattr(ledger, "_add", add_and_prune)
    assert plain(Ledger().totals()) == before
    assert Run.objects.count() < 3


def test_durations_that_were_sorted_into_other_buckets_are_not_mixed_up(tenant):
    ended(tenant, ago_s=200 * DAY_S)
    ended(tenant)
    prune()
    row = RunTotals.objects.get()
    row.sums["buckets"] = [1.0]
    row.save()
    totals = Ledger().totals()
    assert totals.outcomes == {("provision", "succeeded"): 2}
    assert sum(totals.runs["provision"].counts) == 1


# --- as the sweep does it ----------------------------------------------------------------------------------


def test_the_sweep_prunes_by_the_setting(tenant, settings):
    settings.HISTORY_DAYS = 40
    old = ended(tenant, ago_s=41 * DAY_S)
    ended(tenant)
    retention.prune()
    assert left(Run, old) == [False]
    assert Sweep.objects.get(name="prune").items == 1


def test_history_is_never_shorter_than_what_uptime_looks_at(monkeypatch):
    from monitoring.uptime import SPANS
    from zcplatform.lib import env

    assert max(SPANS.values()).days < settings.HISTORY_DAYS
    monkeypatch.setenv("ZCPLATFORM_HISTORY_DAYS", "31")
    with pytest.raises(Exception, match="32 to"):
        env.integer("HISTORY_DAYS", 90, low=32, high=36_500)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_take_each_row_once(tenant):
    for _ in range(20):
        ended(tenant, ago_s=95 * DAY_S)
        told(tenant, days=95)
    ended(tenant)
    before = plain(Ledger().totals())

    def turn():
        try:
            retention.prune()
        finally:
            connection.close()

    threads = [Thread(target=turn) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (Run.objects.count(), Event.objects.count()) == (1, 0)
    assert plain(Ledger().totals()) == before
