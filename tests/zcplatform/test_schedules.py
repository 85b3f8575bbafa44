"""The periodic jobs: what is declared is what the queue's table says, and nothing else of ours."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule

from zcplatform import schedules
from zcplatform.schedules import PERIODIC, Periodic
from zcplatform.ticker import DUE_RUNS

pytestmark = pytest.mark.django_db
JOB = Periodic("sweep", "tenants.tasks.sweep", "* * * * * */30")


def names():
    return sorted(Schedule.objects.values_list("name", flat=True))


def test_the_command_adds_them_once(capsys):
    call_command("ensure_schedules", "--json")
    added = json.loads(capsys.readouterr().out)["added"]
    assert sorted(added) == names() == sorted(schedules.PREFIX + job.name for job in PERIODIC)
    call_command("ensure_schedules")
    assert capsys.readouterr().out == "Nothing to change.\n"


def test_they_run_on_the_one_cluster_that_schedules(settings):
    schedules.ensure()
    assert set(Schedule.objects.values_list("cluster", "repeats")) == {("sweeps", -1)}
    queue = settings.Q_CLUSTER
    assert queue["scheduler"] is False and queue["ALT_CLUSTERS"]["sweeps"]["scheduler"] is True


def test_two_long_jobs_leave_a_worker_for_the_sweeps(settings):
    """A backup and its drill, say, or the check of the audit's chain: health goes on every 30 s."""
    sweeps = settings.Q_CLUSTER["ALT_CLUSTERS"]["sweeps"]
    assert sweeps["workers"] == sweeps["queue_limit"] == 3


def test_a_changed_one_is_mended_and_keeps_its_row():
    schedules.ensure((JOB,))
    before = Schedule.objects.get().pk
    report = schedules.ensure((Periodic("sweep", "tenants.tasks.sweep", "5 * * * *"),))
    assert report.changed == ["zcplatform.sweep"]
    assert (Schedule.objects.get().pk, Schedule.objects.get().cron) == (before, "5 * * * *")


def test_ours_that_is_declared_no_longer_goes_and_others_stay():
    schedules.ensure((JOB,))
    Schedule.objects.create(name="somebody else's", func="x.y", schedule_type=Schedule.HOURLY)
    assert schedules.ensure(()).removed == ["zcplatform.sweep"]
    assert names() == ["somebody else's"]


def test_one_that_is_there_twice_is_there_once_afterwards():
    schedules.ensure((JOB,))
    twin = Schedule.objects.get()
    twin.pk = None
    twin.save()
    schedules.ensure((JOB,))
    assert names() == ["zcplatform.sweep"]


def test_a_bad_cron_is_refused_and_nothing_is_changed():
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError):
        schedules.ensure((JOB, Periodic("broken", "x.y", "every monday")))
    assert names() == []


def test_a_half_minute_job_is_due_within_half_a_minute_and_a_daily_one_is_not():
    schedules.ensure((JOB, Periodic("nightly", "x.y", "17 3 * * *")))
    due = dict(Schedule.objects.values_list("name", "next_run"))
    now = timezone.now()
    assert now - timedelta(seconds=5) < due["zcplatform.sweep"] <= now + timedelta(seconds=30)
    assert due["zcplatform.nightly"] > due["zcplatform.sweep"]


def test_the_queues_scheduler_understands_what_we_write(monkeypatch):
    """The real scheduler, as the cluster ``sweeps`` runs it, turns a due row into a queued task and a next date."""
    from django_q import scheduler
    from django_q.brokers import get_broker
    from django_q.conf import Conf

    schedules.ensure((JOB,))
    Schedule.objects.update(next_run=timezone.now() - timedelta(hours=2))
    monkeypatch.setattr(scheduler, "close_old_django_connections", lambda: None)  # the test's own is in use
    monkeypatch.setattr(Conf, "CLUSTER_NAME", "runs")
    scheduler.scheduler(get_broker("runs"))
    assert not OrmQ.objects.exists()

    monkeypatch.setattr(Conf, "CLUSTER_NAME", "sweeps")
    scheduler.scheduler(get_broker("sweeps"))
    [queued] = OrmQ.objects.all()  # one, although four hundred were missed
    assert (queued.key, queued.func()) == ("sweeps", JOB.func)
    assert Schedule.objects.get().next_run > timezone.now() - timedelta(seconds=5)


def test_every_declared_function_is_there_and_every_name_is_one_of_a_kind():
    assert all(callable(import_string(path)) for path in [DUE_RUNS, *(job.func for job in PERIODIC)])
    assert len({job.name for job in PERIODIC}) == len(PERIODIC)
