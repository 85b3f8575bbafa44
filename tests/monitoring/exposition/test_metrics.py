"""``/metrics``: who may read it, what Prometheus' own checker says, and that all web processes say the same."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from monitoring import heartbeats
from monitoring.alerting.models import Alert, AlertRule
from monitoring.models import HostSnapshot, Sweep
from tenants.records import JobResult
from tests.architecture import ROOT
from tests.factories import RunFactory, TenantFactory
from tests.zcplatform.serving import wait_for
from zcplatform import http_metrics, metrics
from zcplatform.lib import clock

TOKEN = "a-metrics-token-of-the-test"
DEPLOY = ROOT / "deploy" / "prometheus"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(metrics, "_ledger", metrics.Ledger())


@pytest.fixture
def scrape(db, settings):
    settings.METRICS_TOKEN = TOKEN
    return lambda: Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def everything(db):
    """A row of each thing that a family tells of."""
    now = clock.now()
    tenant = TenantFactory(status="running", health="ok", desired="running", slot=0, port=21_001, uid=200_000)
    TenantFactory(status="error")
    RunFactory(tenant=tenant, status="succeeded", finished_at=now).steps.create(
        position=1, name="create", status="done", started_at=now, finished_at=now + timedelta(seconds=2)
    )
    RunFactory(tenant=tenant)
    Sweep.objects.create(name="health", epoch=7, duration_ms=1_500, lag_ms=20, items=3, finished_at=now, overruns=1)
    heartbeats.beat("runs")
    HostSnapshot.objects.create(
        ts=int(now.timestamp()), cpu_mpct=25_000, mem_bytes=1, mem_total=4, disk_bytes=2, disk_total=8
    )
    JobResult.objects.create(name="backup", ok=True)
    rule = AlertRule.objects.create(name="x", metric="host_disk_pct", threshold=1)
    Alert.objects.create(rule=rule, name="x", severity="critical", state="firing", condition="", since=now, seen_at=now)


def values(answer):
    families = text_string_to_metric_families(answer.content.decode())
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


@pytest.mark.parametrize(
    ("token", "header", "status"),
    [
        ("", f"Bearer {TOKEN}", 404),
        ("", "Bearer ", 404),
        (TOKEN, None, 401),
        (TOKEN, "", 401),
        (TOKEN, "Bearer", 401),
        (TOKEN, "Bearer ", 401),
        (TOKEN, f"Bearer {TOKEN}x", 401),
        (TOKEN, f"Basic {TOKEN}", 401),
        (TOKEN, "Bearer \u00fcml\u00e4ut", 401),
        (TOKEN, f"bearer {TOKEN}", 200),
    ],
)
def test_only_who_has_the_token_reads(db, settings, token, header, status):
    settings.METRICS_TOKEN = token
    headers = {} if header is None else {"authorization": header}
    answer = Client().get(f"/metrics?token={TOKEN}", headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert "error" in answer.json() and b"zcplatform_" not in answer.content


def test_a_super_admins_session_is_no_token(super_admin, settings):
    settings.METRICS_TOKEN = TOKEN
    client = Client()
    client.force_login(super_admin)
    assert client.get("/metrics").status_code == 401
    assert client.post("/metrics").status_code == 405


@pytest.mark.promtool
def test_prometheus_own_checker_accepts_it(scrape, everything):
    scrape()  # so that there is a request to tell of
    answer = scrape()
    checked = subprocess.run(["promtool", "check", "metrics"], input=answer.content, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.promtool
def test_the_rules_for_prometheus_are_rules():
    files = sorted(DEPLOY.glob("*.rules.yml"))
    assert files
    for command in (["check", "rules", *files], ["test", "rules", DEPLOY / "tests" / "zcplatform.test.yml"]):
        checked = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def names_of(text):
    return set(re.findall(r"\bzcplatform_[a-z_]+", text))


def documented():
    """The names in the table of families."""
    rows = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `zcplatform_")}


def bare(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_what_is_served_is_what_the_documentation_lists(scrape, everything):
    scrape()
    served = {line.split()[2] for line in scrape().content.decode().splitlines() if line.startswith("# TYPE")}
    assert documented() == served


@pytest.mark.parametrize("path", ["prometheus/zcplatform.rules.yml", "grafana/zcplatform.json"])
def test_rules_and_dashboard_name_only_what_is_served(path):
    used = {bare(name) for name in names_of((ROOT / "deploy" / path).read_text())}
    assert used and used <= documented(), used - documented()


def test_the_numbers_are_those_of_the_rows(scrape, everything):
    found = values(scrape())
    assert found["zcplatform_tenants", "running"] == 1 and found["zcplatform_tenants", "error"] == 1
    assert found["zcplatform_tenants", "stopped"] == 0
    assert found["zcplatform_running_tenants", "ok"] == 1
    assert found["zcplatform_node_slots_used", "local"] == 1
    assert found["zcplatform_runs_total", "provision", "succeeded"] == 1
    assert found["zcplatform_active_runs", "queued"] == 1
    assert found["zcplatform_step_duration_seconds_bucket", "2.5", "create"] == 1
    assert found["zcplatform_step_duration_seconds_bucket", "1.0", "create"] == 0
    assert found["zcplatform_sweep_turns_total", "health"] == 7
    assert found["zcplatform_sweep_last_duration_seconds", "health"] == 1.5
    assert found["zcplatform_host_cpu_busy_ratio",] == 0.25
    assert found["zcplatform_alerts", "critical", "firing"] == 1
    assert found["zcplatform_job_last_ok", "backup"] == 1
    assert 0 <= found["zcplatform_worker_heartbeat_age_seconds", "runs"] < 60


def test_a_route_is_its_pattern_and_never_an_address(scrape):
    client = Client()
    for number in range(3):
        client.get(f"/api/alerts/0000000{number}-0000-4000-8000-000000000000")
        client.get(f"/nowhere/{number}")
    client.generic("BREW", "/healthz")
    counted = re.findall(r'seconds_count{method="(.*)",route="(.*)",status="(.*)"}', scrape().content.decode())
    assert {("GET", "/api/alerts/<uuidstr:alert_id>", "401"), ("GET", "unmatched", "404")} <= set(counted)
    assert "other" in {method for method, _, _ in counted}
    assert not any("nowhere" in route or "0000000" in route for _, route, _ in counted)


def test_scraping_a_thousand_tenants_takes_as_many_queries_as_one(scrape, django_assert_max_num_queries):
    for number in range(50):
        TenantFactory(slug=f"many-{number}", status="running")
    with django_assert_max_num_queries(24):
        scrape()


def test_real_web_processes_sum_their_counts_and_say_the_same(tmp_path):
    """gunicorn with three workers, as ``serve`` starts it: whoever answers tells of all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    env = {name: value for name, value in os.environ.items() if name not in ("ZCPLATFORM_DATABASE_URL", "ZC_TEST_HOME")}
    env |= {
        "ZCPLATFORM_HOME": str(home),
        "ZCPLATFORM_CONFIG": str(home / "platform.toml"),
        "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS": "1",
        "ZCPLATFORM_METRICS_TOKEN": TOKEN,
        "ZCPLATFORM_WEB_WORKERS": "3",
        "DJANGO_SETTINGS_MODULE": "zcplatform.settings",
        "PYTHONPATH": str(ROOT),
        http_metrics.VARIABLE: str(tmp_path / "metrics"),
    }
    (tmp_path / "metrics").mkdir()
    boot = [sys.executable, "manage.py", "bootstrap", "--admin-email", "ops@example.test"]
    subprocess.run(boot, cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
    web = [sys.executable, "-m", "gunicorn", "--config", "python:zcplatform.gunicorn_conf", "--workers", "3"]
    log = (tmp_path / "log").open("wb")
    served = subprocess.Popen(
        [*web, "--bind", f"127.0.0.1:{port}", "zcplatform.asgi:application"], cwd=ROOT, env=env, stdout=log, stderr=log
    )

    def get(path, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()

    def healthz():
        text = get("/metrics", Authorization=f"Bearer {TOKEN}")
        found = re.findall(r'duration_seconds_count{method="GET",route="/healthz",status="200"} (\S+)', text)
        return float(found[0]) if found else 0.0

    def up():
        try:
            return get("/health")
        except OSError:
            return ""

    try:
        wait_for(up, "the web answers")
        for _ in range(60):
            get("/healthz")
        assert [healthz() for _ in range(12)] == [60.0] * 12
        files = list(Path(env[http_metrics.VARIABLE]).glob("histogram_*.db"))
        assert len(files) > 1, "more than one process has counted"
    finally:
        served.terminate()
        served.wait(30)
        log.close()
