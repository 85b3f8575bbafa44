"""One agent answers whatever it likes: that is its own verdict, and the fleet's sweeps go on. Real listeners."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import pytest

from monitoring import diagnosis, probing, quota_marks, strikes
from monitoring.alerting import evaluate
from monitoring.alerting.metrics import registry
from monitoring.alerting.models import Alert, AlertRule
from monitoring.collectors import disks, health, resources, usage
from monitoring.exposition import collector as exposition
from monitoring.models import Sweep
from tenants import last_words, probe, reconcile, routes
from tenants.agents import counts_of, is_healthy, metrics
from tenants.agents.base import Counters
from tenants.folders import DirectFolders
from tenants.models import Tenant
from tenants.records import UsageHour
from tenants.runtimes.docker_observed import observed
from tests.monitoring.test_usage import Metered
from zcplatform.lib.contained import EndsTheLoop, contained, where
from zcplatform.lib.errors import DependencyDown, RunFailed

NESTED = b"[" * 60_000
BOMB = gzip.compress(b" " * 50_000_000, 9)


def components(value: bytes) -> bytes:
    return b'{"runtime":{"components":{"gateway":' + value + b"}}}"


def raw(head: bytes, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


BODIES = {
    "nested lists": NESTED,
    "nested objects": b'{"a":' * 13_000,
    "a number of 5,000 digits": components(b'{"status":' + b"9" * 5_000 + b"}"),
    "not a number": components(b'{"status":NaN}'),
    "no end of infinity": components(b'{"status":1e999}'),
    "no text": b"\xff\xfe\x00\xd8",
    "half a surrogate": components(b'{"status":"\\ud800"}'),
    "a list where an object is due": components(b"[1]"),
    "twice the same name": b'{"runtime":{"components":{"a":{"status":"ok"}}},"runtime":7}',
    "a name that is a number": b'{"runtime":{"components":7}}',
    "nothing": b"",
}
ANSWERS = {
    **{name: raw(b"", body) for name, body in BODIES.items()},
    "a header of a megabyte": raw(b"X-A: " + b"a" * 1_000_000 + b"\r\n"),
    "a hundred thousand headers": raw(b"A: b\r\n" * 100_000),
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a status of 5,000 digits": b"HTTP/1.1 " + b"9" * 5_000 + b" OK\r\n\r\n",
    "a status line of nothing we know": b"\x00\xff\x16\x03\x01\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: 1e9\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a chunk of a negative size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}",
    "a chunk size of no end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
    "a compressed answer that grows": raw(b"Content-Encoding: gzip\r\n", BOMB),
    "compressed nonsense": raw(b"Content-Encoding: br\r\n", b"\xff" * 99),
    "a charset that nobody has": raw(b"Content-Type: text/plain; charset=\xff\xfe\r\n", b"\xff"),
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "a cookie out of shape": raw(b"Set-Cookie: \xff\x00=;;;;=\r\n"),
}
SAMPLES = {
    "an infinite sum": b"zeroclaw_messages_total 1.7e308\n" * 2,
    "a value of 5,000 digits": b"zeroclaw_messages_total " + b"9" * 5_000 + b"\n",
    "more samples than an agent has": b"zeroclaw_messages_total 1\n" * 10_000,
    "no end of a name": b"zeroclaw_messages_total{a" * 10_000,
    "labels without end": b"zeroclaw_messages_total{" + b'a="b",' * 40_000 + b"} 1\n",
    "escapes without end": b'zeroclaw_messages_total{a="' + b"\\" * 200_000 + b'"} 1\n',
    "not a number": b"zeroclaw_messages_total NaN\n",
    "less than nothing": b"zeroclaw_messages_total -5\n",
    "no text": b"zeroclaw_messages_total\xff\x00 1\n",
    "an absurd time": b"zeroclaw_messages_total 1 " + b"9" * 400 + b"\n",
    "nested lists": NESTED,
}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.5)


@pytest.fixture
def two(world, listeners):
    bad, well = Metered(world, listeners, "Bad"), Metered(world, listeners, "Well")
    Tenant.objects.update(agent_kind="zeroclaw")
    well.says = components(b'{"status":"ok"}')
    return bad, well


def says(metered, mode, body):
    metered.listeners.modes[metered.port], metered.listeners.bodies[metered.port] = mode, body


def watched(pk, port):
    url = f"http://127.0.0.1:{port}/health"
    return health.Watched(pk, 1, url, "zeroclaw", False, "ok", strikes.Memory(0, 0, ()), None, 0)


def test_an_answer_that_is_none_fails_its_own_agent_and_no_other(listeners):
    """All at once: two that are well stand among them."""
    asked = {name: listeners.open("raw") for name in ANSWERS}
    for name, port in asked.items():
        listeners.bodies[port] = ANSWERS[name]
    well = [listeners.open() for _ in range(2)]
    listeners.bodies |= dict.fromkeys(well, components(b'{"status":"ok"}'))
    ports = [well[0], *asked.values(), well[1]]
    found = health.probe([watched(port, port) for port in ports])
    assert {name: str(found[port][0]) for name, port in asked.items()} == dict.fromkeys(ANSWERS, "failing")
    assert [str(found[port][0]) for port in well] == ["ok", "ok"]


def test_a_sweep_over_such_an_agent_ends_well(two):
    bad, well = two
    says(bad, "ok", NESTED)
    says(well, "ok", well.says)
    outcome = health.sweep()
    assert (outcome.items, outcome.failures) == (2, 1)
    assert Sweep.objects.get(name="health").error == ""
    found = dict(Tenant.objects.values_list("pk", "health"))
    assert found == {bad.tenant.pk: "failing", well.tenant.pk: "ok"}


@pytest.mark.parametrize("name", ANSWERS)
def test_neither_does_the_worker_fail_that_waits_for_one_agent(listeners, name):
    port = listeners.open("raw")
    listeners.bodies[port] = ANSWERS[name]
    tenant = SimpleNamespace(agent_kind="zeroclaw", slug="bad", port=port, node=SimpleNamespace(address="127.0.0.1"))
    assert probe.probe(tenant) is False


@pytest.mark.parametrize("name", SAMPLES)
def test_counts_that_are_none_are_no_data(name):
    assert usage._counters("zeroclaw", probing.Answer(200, SAMPLES[name])) == Counters()


def test_the_others_are_counted(two):
    bad, well = two
    says(bad, "ok", SAMPLES["an infinite sum"])
    well.tells(messages=3)
    assert usage.sweep().failures == 1
    assert Sweep.objects.get(name="usage").error == ""
    assert list(UsageHour.objects.values_list("tenant", "messages_in")) == [(well.tenant.pk, 3)]


def test_what_an_agent_tells_besides_is_not_even_read():
    other = "".join(f'another_total{{label="{number}"}} {number}\n' for number in range(3_000)) + "not { a metric\n"
    assert metrics.counters(other + "zeroclaw_messages_total 3\n" + other) == Counters(messages_in=3)


def test_a_kind_that_fails_by_itself_is_an_unhealthy_agent_without_data():
    assert is_healthy("no such kind", 200, b"") is False
    assert counts_of("no such kind", "") == Counters()


def test_a_row_that_makes_no_sense_keeps_no_other_from_being_watched(two):
    bad, well = two
    Tenant.objects.filter(pk=bad.tenant.pk).update(agent_kind="gone")
    says(well, "ok", well.says)
    assert [watched.pk for watched in health.watch()] == [well.tenant.pk]
    assert health.sweep().items == 1
    assert [route.slug for route in routes.desired()] == ["well"]


def test_counts_that_the_database_refuses_are_their_agents_alone(two, monkeypatch):
    bad, well = two
    monkeypatch.setattr(usage, "HIGHEST", 2**100)
    says(bad, "ok", b"zeroclaw_messages_total %d\n" % 2**90)
    well.tells(messages=3)
    usage.sweep()
    assert list(UsageHour.objects.values_list("tenant", "messages_in")) == [(well.tenant.pk, 3)]


def test_a_handle_that_makes_no_sense_keeps_no_other_from_being_measured(two):
    bad, well = two
    Tenant.objects.filter(pk=bad.tenant.pk).update(handle={"id": "x"})
    _, measured, _ = resources._measure()
    assert [item.tenant for item in measured] == [well.tenant.pk]


@pytest.mark.parametrize("fault", [RecursionError, MemoryError, UnicodeDecodeError("utf-8", b"", 0, 1, "x")])
def test_a_folder_that_cannot_be_measured_in_any_way_keeps_no_other_from_it(two, monkeypatch, fault):
    bad, _ = two
    monkeypatch.setattr(disks, "SPREAD", 1)
    original = DirectFolders.size

    def size(self, folder):
        if folder.name == str(bad.tenant.public_id):
            raise fault
        return original(self, folder)

    monkeypatch.setattr(DirectFolders, "size", size)
    outcome = disks.sweep()
    assert (outcome.items, outcome.failures) == (2, 1)


def test_a_quota_that_cannot_be_told_keeps_no_other_from_it(two, monkeypatch):
    bad, _ = two
    told = []

    def tell(tenant, quota, _known):
        if tenant.pk == bad.tenant.pk:
            raise OverflowError
        return not told.append((tenant.slug, quota.name))

    monkeypatch.setattr(quota_marks, "_tell", tell)
    assert quota_marks.tell_all(Tenant.objects.select_related("plan")) == 2
    assert told == [("well", "messages"), ("well", "tokens")]


@pytest.mark.parametrize("fault", [RecursionError, DependencyDown("The folder hangs.", type="storage_full")])
def test_reconcile_goes_on_after_one_that_cannot_be_looked_at(two, monkeypatch, fault):
    bad, well = two
    looked = []

    def of_tenant(_runtime, tenant, _seen, *, thorough):
        if tenant.pk == bad.tenant.pk:
            raise fault
        looked.append(tenant.pk)
        return []

    monkeypatch.setattr(reconcile, "_of_tenant", of_tenant)
    found = reconcile.look(bad.tenant.node)
    assert looked == [well.tenant.pk]
    assert [(item.difference.what, item.difference.slug) for item in found] == [("unreadable", "bad")]


def test_reconcile_goes_on_after_one_that_cannot_be_acted_on(two, monkeypatch):
    def act_on(_runtime, item):
        if item.difference.slug == "bad":
            raise ValueError
        return item

    monkeypatch.setattr(reconcile, "_act_on", act_on)
    found = [reconcile.Found(reconcile.Difference("x", "report", slug=slug)) for slug in ("bad", "well")]
    assert reconcile.act(two[0].tenant.node, found) == found[1:]


def test_a_rule_that_cannot_be_looked_at_keeps_no_other_from_it(db, monkeypatch):
    AlertRule.objects.all().delete()
    common = {"metric": "tried", "threshold": 1, "comparison": "gt", "hold_s": 0, "severity": "warning"}
    AlertRule.objects.create(name="Bad", **common)
    AlertRule.objects.create(name="Well", **common)
    readings = [registry.Reading("one", 5.0)]
    monkeypatch.setitem(registry._metrics, "tried", registry.Metric("tried", "", "", "platform", lambda: readings))
    original = AlertRule.is_met_by
    monkeypatch.setattr(
        AlertRule, "is_met_by", lambda rule, value: 1 / 0 if rule.name == "Bad" else original(rule, value)
    )
    assert evaluate.evaluate().failures == 1
    assert list(Alert.objects.values_list("name", flat=True)) == ["Well"]


def test_metrics_that_cannot_be_told_leave_a_gap_and_not_an_error(db, monkeypatch):
    monkeypatch.setattr(exposition, "_fleet", lambda: 1 / 0)
    names = {family.name for family in exposition.RowsCollector(exposition.Ledger(), "1").collect()}
    assert "zcplatform_queue_tasks" in names and "zcplatform_tenants" not in names


def test_last_words_can_be_written_down_whatever_they_are(two, monkeypatch):
    bad, _ = two
    assert last_words.clean(bad.tenant, "bye\x00\x1b[2J\nnow") == "bye\ufffd / now"
    monkeypatch.setattr(DirectFolders, "write_log", lambda *_: 1 / 0)
    last_words.save(bad.tenant, "bye")


@pytest.mark.parametrize("label", ["", "x", "-1", "9" * 5_000, "\u0664"])
def test_a_label_that_somebody_else_wrote_is_read_as_none(label):
    raw_container = {
        "Id": "i",
        "Name": "/n",
        "State": {"Status": "running", "OOMKilled": False, "StartedAt": "2026-01-01T00:00:00Z"},
        "Config": {"Labels": {"zcplatform.epoch": label}},
        "HostConfig": {},
    }
    assert observed(raw_container).epoch == 0


def test_a_fault_is_logged_without_what_the_agent_said(caplog):
    secret = "the whole of an answer"
    assert contained(lambda: json.loads("[") or int(secret), 7, what="tried", agent="a") == 7
    assert contained(lambda: int(secret), 7, what="tried") == 7
    assert "tried" in caplog.text and secret not in caplog.text


def test_what_concerns_all_ends_the_loop():
    def over():
        raise EndsTheLoop

    with pytest.raises(EndsTheLoop):
        contained(over, None, what="tried")
    with pytest.raises(RunFailed):
        contained(lambda: (_ for _ in ()).throw(RunFailed("no")), None, what="tried", passing=(RunFailed,))


def test_where_it_was_is_told_by_the_last_lines_of_code():
    try:
        json.loads("[")
    except ValueError as error:
        assert where(error).split(" > ")[-1].startswith("decoder.py:")


def test_every_probes_word_has_its_sentence():
    assert "senseless" in diagnosis.PROBES
