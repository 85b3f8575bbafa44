"""What a message tells beside its title: with units, of which tenants, and where to look."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.machine import Notice
from monitoring.alerting.message import compose, condition_of, lines
from monitoring.alerting.message import test_message as trial
from monitoring.alerting.metrics import known
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier
from monitoring.alerting.notifiers import notifier_kind
from monitoring.alerting.notifiers.base import Address
from monitoring.alerting.units import YES_OR_NO, limit, with_unit
from tenants.states import Desired, Status
from tests import outside
from tests.factories import TenantFactory, UserFactory
from zcplatform.lib import clock
from zcplatform.lib.redact import SecretStr

pytestmark = pytest.mark.django_db
BASE = "https://platform.example.com"


@pytest.fixture(autouse=True)
def _at(settings):
    settings.PUBLIC_BASE_URL = BASE
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (93.25, "%", "93.25 %"),
        (3.0, "tenants", "3 tenants"),
        (90.0, "s", "90 s"),
        (0.0, "s", "0 s"),
        (950.0, "s", "15.8 min"),
        (95_000.0, "s", "26.4 h"),
        (7_200_000.0, "s", "2000 h"),
        (1.0, YES_OR_NO, "yes"),
        (5.0, "", "5"),
    ],
)
def test_a_value_has_its_unit(value, unit, words):
    assert with_unit(value, unit) == words


def test_what_a_value_is_compared_with_is_told_to_the_second():
    assert [limit(s, "s") for s in (93_600, 900, 10_000, 0)] == ["26 h", "15 min", "10000 s", "0 s"]
    assert (limit(80, "%"), limit(1, YES_OR_NO)) == ("80 %", "1")


def test_the_condition_of_every_metric_is_a_sentence_with_its_unit():
    for metric in known():
        told = condition_of(AlertRule(metric=metric.name, comparison="ge", threshold=1, hold_s=300))
        wanted = metric.label if metric.unit == YES_OR_NO else f"{metric.label} ≥ {limit(1, metric.unit)}"
        assert told == f"{wanted} for 5 min"
        below = condition_of(AlertRule(metric=metric.name, comparison="lt", threshold=1, hold_s=0))
        assert below.startswith(f"{metric.label} < 1")


def fired(metric, *, tenant=None):
    AlertRule.objects.create(name="A rule", metric=metric, comparison="gt", threshold=0, hold_s=0, tenant=tenant)
    Notifier.objects.create(name="ops", kind="webhook", config={"url": f"{BASE}/hook"}, tenant=tenant)
    evaluate()
    return Delivery.objects.get().message


@pytest.mark.parametrize("metric", ["tenants_in_error", "health_errors"])
def test_a_count_of_tenants_says_which_and_where(metric):
    for slug in ("zeta", "alpha"):
        TenantFactory(slug=slug, status=Status.ERROR, desired=Desired.RUNNING)
    TenantFactory(slug="fine", status=Status.RUNNING, desired=Desired.RUNNING)
    message = fired(metric)
    assert message["tenants"] == [{"slug": s, "url": f"{BASE}/tenants/{s}/"} for s in ("alpha", "zeta")]
    assert (message["value"], message["unit"], message["tenants_total"]) == (2.0, "tenants", 2)
    told = lines(message)
    assert "Value: 2 tenants" in told and f"alpha: {BASE}/tenants/alpha/" in told and told[-1] == f"{BASE}/alerts"


def test_a_hundred_tenants_are_not_a_hundred_lines():
    for number in range(30):
        TenantFactory(slug=f"t-{number:02}", status=Status.ERROR)
    told = lines(fired("tenants_in_error"))
    assert "t-19" in "\n".join(told) and "t-20" not in "\n".join(told) and "and 10 more" in told


def test_the_names_follow_the_count():
    tenant = TenantFactory(slug="alpha", status=Status.ERROR)
    fired("tenants_in_error")
    tenant.status = Status.RUNNING
    tenant.save()
    TenantFactory(slug="beta", status=Status.ERROR)
    evaluate()
    assert Alert.objects.get().which == ["beta"]


def test_an_alert_of_a_tenant_leads_to_its_page():
    tenant = TenantFactory(slug="acme", status=Status.ERROR, desired=Desired.RUNNING)
    message = fired("tenant_in_error", tenant=tenant)
    assert message["condition"] == "The tenant is in error"
    assert message["url"] == lines(message)[-1] == f"{BASE}/tenants/acme/alerts"
    assert not [line for line in lines(message) if line.startswith("Value")]  # 1 says nothing that the rule does not


@pytest.mark.parametrize(
    ("kind", "config", "text"),
    [
        ("slack", {}, lambda body: body["text"]),
        ("webhook", {"url": ""}, json.dumps),
    ],
)
def test_the_link_and_the_unit_reach_the_receiver(kind, config, text):
    tenant = TenantFactory(slug="acme")
    now = clock.now()
    alert = Alert(tenant=tenant, name="Memory", severity="warning", state="firing", value=93.25, unit="%", since=now)
    with outside.server() as made:
        url = outside.url(made)
        secret = SecretStr(url if kind == "slack" else "s" * 20)
        notifier_kind(kind).send(Address(config and {"url": url}, secret, "d1"), compose(alert, Notice.FIRE))
    said = text(json.loads(made.seen[0].body))
    assert f"{BASE}/tenants/acme/alerts" in said
    assert "93.25 %" in said or '"unit": "%"' in said


def test_a_message_that_an_earlier_version_has_queued_can_still_be_told():
    new = trial() | {"value": 4.0}
    old = {name: new[name] for name in new.keys() - {"unit", "tenants", "tenants_total", "url"}}
    assert lines(old)[-1] == BASE and "Value: 4" in lines(old)


def test_the_pages_and_the_api_name_them_too(client):
    TenantFactory(slug="alpha", status=Status.ERROR)
    fired("tenants_in_error")
    client.force_login(UserFactory(is_superuser=True))
    page = client.get("/alerts").content.decode()
    assert '<a href="/tenants/alpha/">alpha</a>' in page and "1 tenants" in page
    assert "alpha" in client.get("/admin/monitoring/alert/").content.decode()
    item = client.get("/api/alerts").json()["items"][0]
    assert (item["unit"], item["which"]) == ("tenants", ["alpha"])
