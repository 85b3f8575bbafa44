"""Looks at the rules: what becomes of alerts, who is told, and that two who look at once do it once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from monitoring.alerting import sweeps
from monitoring.alerting.evaluate import MAX_MESSAGES, close, evaluate
from monitoring.alerting.metrics import Reading
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier, Silence
from monitoring.models import Sweep
from tests import processes
from tests.factories import TenantFactory
from tests.tenants.test_membership import at_once
from zcplatform.lib import clock

pytestmark = pytest.mark.django_db


def look(time, *, times=1, minutes=1):
    for _ in range(times):
        evaluate()
        time.pass_(minutes=minutes)


def told(notifier=None):
    rows = Delivery.objects.order_by("pk")
    return list((rows.filter(notifier=notifier) if notifier else rows).values_list("notice", flat=True))


def test_a_fleet_that_is_well_writes_nothing(time, dial, rule, notifier, django_assert_num_queries):
    dial.show(10.0)
    with django_assert_num_queries(3):
        evaluate()
    assert not Alert.objects.exists()


def test_it_fires_repeats_and_resolves_and_each_is_told_once(time, dial, rule, notifier):
    dial.show(90.0)
    look(time, times=2)
    assert (Alert.objects.get().state, told()) == ("pending", [])
    look(time)
    assert (Alert.objects.get().state, told()) == ("firing", ["fire"])
    look(time, times=30)
    assert told() == ["fire"]
    Delivery.objects.update(state="sent")
    look(time, times=31)
    assert told() == ["fire", "repeat"]
    dial.show(10.0)
    look(time, times=3)
    assert told() == ["fire", "repeat", "resolve"]
    alert = Alert.objects.get()
    assert (alert.state, alert.value, alert.resolved_at > alert.fired_at) == ("resolved", 90.0, True)


def test_what_was_never_sent_is_not_repeated(time, dial, rule, notifier):
    dial.show(90.0)
    look(time, times=70)
    assert told() == ["fire"]


def test_a_restart_of_the_platform_loses_no_time_and_says_nothing_twice(time, dial, rule, notifier):
    """All there is lies in rows: every look here starts from nothing, as after a restart."""
    dial.show(90.0)
    look(time, times=3)
    first = Alert.objects.get().public_id
    look(time, minutes=60)
    look(time)
    assert (Alert.objects.get().public_id, told()) == (first, ["fire"])


def test_each_subject_has_an_alert_of_its_own(time, dial, rule, notifier):
    dial.show(90.0, 10.0, 99.0)
    look(time, times=3)
    assert sorted(Alert.objects.values_list("label", "state")) == [("thing 0", "firing"), ("thing 2", "firing")]
    dial.show(90.0, 10.0)  # the third is gone: a node that was removed
    look(time)
    assert sorted(Alert.objects.values_list("label", "state")) == [("thing 0", "firing"), ("thing 2", "resolved")]


def test_r4_a_value_that_is_not_known_neither_fires_nor_resolves(time, dial, rule, notifier):
    dial.show(90.0)
    look(time, times=3)
    dial.show(None)
    look(time, times=5)
    assert (Alert.objects.get().state, told()) == ("firing", ["fire"])


def test_a_metric_that_breaks_keeps_no_other_rule_from_its_turn(time, dial, rule, notifier, monkeypatch):
    other = AlertRule.objects.create(name="Error", metric="tenants_in_error", threshold=0, hold_s=0)
    TenantFactory(status="error")
    dial.readings = ValueError("no such table")
    assert evaluate().failures == 1
    assert list(Alert.objects.values_list("rule", flat=True)) == [other.pk]


def test_a_rule_of_a_metric_that_is_gone_is_passed_over(time, dial, rule):
    AlertRule.objects.update(metric="gone")
    assert evaluate().failures == 1


def test_a_tenants_own_rule_tells_the_tenant_and_the_platforms_tells_whom_it_names(time, dial, rule, notifier, tenant):
    theirs = Notifier.objects.create(tenant=tenant, name="team", kind="webhook", config={})
    other = Notifier.objects.create(tenant=TenantFactory(), name="others", kind="webhook", config={})
    dial.show(99.0, tenant=tenant)
    for owner, audience, expected in [
        (tenant, "both", {theirs}),
        (None, "both", {theirs, notifier}),
        (None, "tenant", {theirs}),
        (None, "platform", {notifier}),
    ]:
        Alert.objects.all().delete()
        AlertRule.objects.update(tenant=owner, audience=audience, hold_s=0)
        look(time)
        assert {d.notifier for d in Delivery.objects.all()} == expected, (owner, audience)
        assert other.pk not in Delivery.objects.values_list("notifier", flat=True)


def test_c1_a_tenants_rule_sees_no_other_tenant(time, dial, rule, tenant):
    AlertRule.objects.update(tenant=tenant, hold_s=0)
    dial.show(99.0, tenant=TenantFactory())
    look(time)
    assert not Alert.objects.exists()


def test_a_notifier_hears_only_what_is_severe_enough_for_it(time, dial, rule, notifier):
    Notifier.objects.update(min_severity="critical")
    dial.show(90.0)
    look(time, times=4)
    assert told() == []
    AlertRule.objects.update(severity="critical")
    Alert.objects.all().delete()
    look(time, times=3)
    assert told() == ["fire"]


def test_a_notifier_that_comes_later_hears_what_fires_and_one_that_was_disabled_hears_nothing(
    time, dial, rule, notifier
):
    dial.show(90.0)
    look(time, times=3)
    late = Notifier.objects.create(name="late", kind="webhook", config={})
    Notifier.objects.filter(pk=notifier.pk).update(enabled=False)
    look(time)
    assert (told(notifier), told(late)) == (["fire"], ["fire"])
    dial.show(0.0)
    look(time)
    assert (told(notifier), told(late)) == (["fire"], ["fire", "resolve"])


@pytest.mark.parametrize("what", ["rule", "tenant", "both", "everything"])
def test_a_silence_keeps_quiet_until_its_time_and_then_what_still_fires_is_told(
    time, dial, rule, notifier, tenant, what
):
    dial.show(99.0, tenant=tenant)
    AlertRule.objects.update(hold_s=0)
    fields = {
        "rule": rule if what in ("rule", "both") else None,
        "tenant": tenant if what in ("tenant", "both") else None,
    }
    Silence.objects.create(**fields, until=clock.now() + timedelta(minutes=10), created_by="x")
    look(time, times=10)
    assert (told(), Alert.objects.get().state) == ([], "firing")
    look(time)
    assert told() == ["fire"]


def test_a_silence_about_something_else_changes_nothing(time, dial, rule, notifier, tenant):
    dial.show(99.0, tenant=tenant)
    AlertRule.objects.update(hold_s=0)
    until = clock.now() + timedelta(hours=1)
    other = AlertRule.objects.create(name="other", metric="dial", threshold=1_000)
    Silence.objects.create(rule=other, until=until, created_by="x")
    Silence.objects.create(tenant=TenantFactory(), until=until, created_by="x")
    look(time)
    assert told() == ["fire"]


def test_a_tenants_silence_leaves_the_operator_awake(time, dial, rule, notifier, tenant):
    theirs = Notifier.objects.create(tenant=tenant, name="team", kind="webhook", config={})
    dial.show(99.0, tenant=tenant)
    AlertRule.objects.update(hold_s=0)
    Silence.objects.create(tenant=tenant, for_tenant_only=True, until=clock.now() + timedelta(hours=1), created_by="x")
    look(time)
    assert (told(notifier), told(theirs)) == (["fire"], [])


def test_an_acknowledged_alert_is_not_repeated_and_its_end_is_told(time, dial, rule, notifier):
    dial.show(90.0)
    look(time, times=3)
    Delivery.objects.update(state="sent")
    Alert.objects.update(acked_at=clock.now(), acked_by="x")
    look(time, times=70)
    assert told() == ["fire"]
    dial.show(0.0)
    look(time)
    assert told() == ["fire", "resolve"]


def test_m_a_flood_comes_in_portions_and_loses_nothing(time, dial, rule, notifier):
    AlertRule.objects.update(hold_s=0)
    dial.show(*[99.0] * 45)
    counts = []
    for _ in range(4):
        look(time)
        counts.append(len(told()))
    assert counts == [MAX_MESSAGES, 2 * MAX_MESSAGES, 45, 45]
    dial.show(*[0.0] * 45)
    look(time)
    assert told().count("resolve") == 45


def test_an_alert_whose_rule_is_closed_ends_and_says_so(time, dial, rule, notifier):
    dial.show(90.0)
    look(time, times=3)
    close(Alert.objects.get(), now=clock.now())
    assert (Alert.objects.get().state, told()) == ("resolved", ["fire", "resolve"])
    Alert.objects.all().delete()
    look(time)
    close(Alert.objects.get(), now=clock.now())
    assert not Alert.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_evaluators_at_once_make_one_alert_and_one_message(dial, notifier, monkeypatch):
    for _ in range(5):
        Alert.objects.all().delete()
        AlertRule.objects.all().delete()
        AlertRule.objects.create(name="x", metric="dial", threshold=80, hold_s=0)
        dial.show(*[99.0] * 5)
        raised = at_once(*[evaluate] * 4)
        assert raised == []
        assert Alert.objects.filter(state="firing").count() == 5
        assert sorted(Delivery.objects.values_list("number", flat=True)) == [1] * 5
        dial.show(*[0.0] * 5)
        assert at_once(*[evaluate] * 4) == []
        assert sorted(told()) == ["fire"] * 5 + ["resolve"] * 5


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hit", range(1, 5))
def test_an_evaluator_killed_in_the_middle_is_finished_by_the_next(hit, notifier):
    """Real processes on the real file: killed at the n-th message, then run again: each message once."""
    AlertRule.objects.create(name="Error", metric="tenant_in_error", threshold=1, comparison="ge", hold_s=0)
    for _ in range(3):
        TenantFactory(status="error", desired="running")
    exit_code = processes.run(evaluate, f"alerts.queued=kill@{hit}")
    assert exit_code == (processes.KILLED if hit <= 3 else 0)
    assert Delivery.objects.count() in (0, 3), "a turn is one transaction"
    for _ in range(2):
        assert processes.run(evaluate) == 0
        assert told() == ["fire"] * 3


def test_a_turn_at_a_time_and_one_that_was_overtaken_writes_nothing(time, dial, rule, notifier):
    AlertRule.objects.update(hold_s=0)

    class Slow(list):
        def __iter__(self):
            if not again:
                again.append(1)
                assert sweeps.evaluate_rules() is None, "one is at work"
                Sweep.objects.update(epoch=F("epoch") + 1)  # and is overtaken meanwhile
            return super().__iter__()

    again = []
    dial.readings = Slow([Reading("", 99.0)])
    assert sweeps.evaluate_rules() is None
    assert not Alert.objects.exists()
    Sweep.objects.update(lease_until=None)
    assert sweeps.evaluate_rules().items == 1
    assert (Alert.objects.get().state, Sweep.objects.get().overruns) == ("firing", 1)
