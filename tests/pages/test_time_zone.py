"""What is called UTC is UTC, whatever zone somebody sets: every page, and every schedule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as django_settings
from django.template import Context, Template
from django.utils import timezone
from django_q.models import Schedule

from audit.words import _plain
from backups.folder import name_at
from monitoring.models import Sweep
from tenants import services
from tests.architecture import ROOT
from tests.browser import cast
from tests.pages.conftest import browser
from zcplatform import schedules
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

ELSEWHERE = "America/Sao_Paulo"
MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?(?: UTC)?)?|\b\d\d:\d\d(?::\d\d)? UTC|>\d\d-\d\d \d\d:\d\d<"
)
NOON = datetime(2026, 3, 10, 1, 30, tzinfo=UTC)  # yesterday, west of Greenwich
TABS = (
    *("", "configuration", "configuration/history", "channels", "members", "access", "pairing", "usage", "alerts"),
    *("alerts/rules", "alerts/notifiers", "alerts/silence", "logs", "console", "runs", "audit", "setup/model"),
)


def paths(stage):
    own = [f"/tenants/{stage.tenant.slug}/{tab}" for tab in TABS]
    runs = [f"/runs/{run.public_id}" for run in stage.tenant.runs.all()]
    return ["/", "/tenants/", "/alerts", "/account", *own, *runs, *cast.admin_pages()]


def test_every_page_says_the_same_in_another_zone(stage, settings):
    services.suspend(actor=OPERATOR, tenant=stage.tenant, note="unpaid")
    schedules.ensure()
    Sweep.objects.create(name="health", started_at=NOON, finished_at=NOON)
    boss = browser(stage.people["super-admin"])

    def told(path, zone):
        settings.TIME_ZONE = zone
        assert timezone.get_current_timezone_name() == zone
        page = boss.get(path)
        assert page.status_code in (200, 302), path
        return MOMENT.findall(page.content.decode())

    pages, now = paths(stage), clock.now()
    with clock.use(lambda: now):
        found = {path: [told(path, zone) for zone in ("UTC", ELSEWHERE)] for path in pages}
    assert {path: both for path, both in found.items() if both[0] != both[1]} == {}
    assert sum(len(here) for here, _ in found.values()) > 100, "there is something to compare"


def test_no_template_prints_a_time_in_the_zone_of_the_moment():
    texts = {path.name: path.read_text() for path in (ROOT / "templates").rglob("*.html")}
    assert [name for name, text in texts.items() if re.search(r"\|\s*(?:date|time)\b|\{%\s*now\b", text)] == []


def test_the_filter_takes_what_it_gets(settings):
    settings.TIME_ZONE = ELSEWHERE
    shown = Template('{{ at|utc:"Y-m-d H:i" }}|{{ none|utc:"Y" }}|{{ day|utc:"Y-m-d" }}')
    assert shown.render(Context({"at": NOON, "none": None, "day": NOON.date()})) == "2026-03-10 01:30||2026-03-10"


def test_what_is_told_in_words_is_utc_and_says_so():
    west = NOON.astimezone(timezone.get_fixed_timezone(timedelta(hours=-3)))
    assert clock.in_words(west) == "2026-03-10 01:30:00 UTC"
    assert _plain(west.isoformat()) == "2026-03-10 01:30 UTC"
    assert name_at(west) == name_at(NOON)


def test_crons_are_in_utc(db, settings):
    settings.TIME_ZONE = ELSEWHERE
    schedules.ensure()
    row = Schedule.objects.get(name="zcplatform.trash-purge")
    assert (row.cron, row.next_run.astimezone(UTC).strftime("%H:%M")) == ("17 3 * * *", "03:17")
    assert row.calculate_next_run().astimezone(UTC).hour == 3


CODE = """
import django; django.setup()
from django.conf import settings; from django_q.conf import Conf; from zcplatform.checks import _zone
print(settings.TIME_ZONE, Conf.TIME_ZONE, [warning.id for warning in _zone()])
"""


@pytest.mark.parametrize(("zone", "warned"), [("UTC", "[]"), (ELSEWHERE, "['zcplatform.W020']")])
def test_the_setting_of_earlier_versions_changes_nothing_and_is_warned_of(tmp_path, zone, warned):
    file = tmp_path / "platform.toml"
    file.write_text(f'[server]\ntime_zone = "{zone}"\n')
    own = {"ZCPLATFORM_CONFIG": str(file), "ZCPLATFORM_HOME": str(tmp_path), "TZ": zone}
    own["DJANGO_SETTINGS_MODULE"] = "zcplatform.settings"
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == f"UTC UTC {warned}"


def test_this_platforms_own_zone_is_utc():
    assert django_settings.TIME_ZONE == "UTC"
