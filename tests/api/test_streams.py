"""Event streams of the served application: progress, resumption, logs, caps (M3), the end of a credential (B4, C11)."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest
from django.db import connection

from accounts import logins
from accounts.models import ApiKey, Login
from tenants import membership, services
from tenants.api import streams
from tenants.models import Member, Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tests.api.conftest import bearer_of, with_key
from tests.factories import MemberFactory, UserFactory
from tests.serving import serving
from zcplatform.asgi import application
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(streams, "POLL_S", 0.02)
    monkeypatch.setattr(streams, "CHECK_S", 0.05)
    monkeypatch.setattr(streams, "slots", streams.Slots())


@pytest.fixture
def owner(acme):
    return MemberFactory(tenant=acme, role="owner").user


@pytest.fixture
def base(acme):
    with serving(application) as port:
        yield f"http://127.0.0.1:{port}/api"


def started(acme):
    Tenant.objects.filter(pk=acme.pk).update(desired="stopped", status="stopped")
    return services.start(actor=OPERATOR, tenant=acme)


class Stream:
    """An open stream: ``events`` as they come, and the connection to close."""

    def __init__(self, url, bearer, **headers):
        self.client = httpx.Client(timeout=20)
        headers = {"Authorization": f"Bearer {bearer}", **headers}
        self.context = self.client.stream("GET", url, headers=headers)
        self.response = self.context.__enter__()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.__exit__(None, None, None)
        self.client.close()

    def events(self):
        """(type, data, id) of each until the server ends the stream."""
        found = {}
        for line in self.response.iter_lines():
            if line.startswith(":") or not line:
                if "event" in found:
                    yield found["event"], json.loads(found["data"]), int(found.get("id", 0))
                found = {}
                continue
            name, _, value = line.partition(": ")
            found[name] = value


def in_background(act):
    def run():
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_runs_progress_comes_as_it_happens_and_ends_with_it(base, acme, owner):
    run = started(acme)
    with Stream(f"{base}/runs/{run.public_id}/events", bearer_of(owner)) as stream:
        assert stream.response.headers["content-type"] == "text/event-stream"
        assert stream.response.headers["cache-control"] == "no-store"
        events = stream.events()
        first = [next(events)]
        worker = in_background(lambda: execute(run.pk, PROCEDURE))
        told = first + list(events)
        worker.join()
    kinds = [kind for kind, _, _ in told]
    assert kinds[0] == "run.queued" and "run.started" in kinds and kinds[-1] == "end"
    steps = [(data["name"], data["status"]) for kind, data, _ in told if kind == "step"]
    assert ("reserve_slot", "pending") in steps and ("reserve_slot", "done") in steps
    assert told[-1][1]["id"] == str(run.public_id)
    ids = [number for kind, _, number in told if kind.startswith("run.")]
    assert ids == sorted(ids) and all(ids)


def test_after_a_break_a_client_goes_on_where_it_was(base, acme, owner):
    run = started(acme)
    execute(run.pk, PROCEDURE)
    Run.objects.filter(pk=run.pk).update(status="succeeded")
    url, bearer = f"{base}/runs/{run.public_id}/events", bearer_of(owner)
    with Stream(url, bearer) as stream:
        whole = [event for event in stream.events() if event[2]]
    with Stream(url, bearer, **{"Last-Event-ID": str(whole[0][2])}) as stream:
        rest = [event for event in stream.events() if event[2]]
    assert len(whole) >= 2 and rest == whole[1:]
    for bad in ("x", "-1"):
        answer = httpx.get(url, headers={"Authorization": f"Bearer {bearer}", "Last-Event-ID": bad})
        assert answer.status_code == 422


def log_out(user, acme):
    logins.end(Login.objects.filter(user=user))


def be_removed(user, acme):
    membership.remove(actor=OPERATOR, member=Member.objects.get(tenant=acme, user=user))


def be_demoted(user, acme):
    # A viewer still sees runs, but reads no logs.
    membership.set_role(actor=OPERATOR, tenant=acme, user=user, role="viewer")


def be_suspended(user, acme):
    type(user).objects.filter(pk=user.pk).update(is_active=False)


@pytest.mark.parametrize("ending", [log_out, be_removed, be_demoted, be_suspended])
def test_b4_an_open_stream_is_cut_when_its_right_ends(base, acme, owner, ending):
    user = MemberFactory(tenant=acme, role="contributor").user
    with Stream(f"{base}/tenants/{acme.public_id}/logs?follow=true", bearer_of(user)) as stream:
        events = stream.events()
        assert next(events)[0] in ("lines",)
        ending(user, acme)
        assert list(events)[-1][:2] == ("cut", {"reason": "no_longer_allowed"})


def test_b4_a_key_that_ends_cuts_its_stream(base, acme, owner):
    key = with_key(owner, "read").bearer
    run = started(acme)
    with Stream(f"{base}/runs/{run.public_id}/events", key) as stream:
        events = stream.events()
        next(events)
        ApiKey.objects.update(revoked_at=clock.now())
        assert list(events)[-1][0] == "cut"


def test_c11_streams_ask_the_same_questions_as_the_rest(base, acme, owner):
    run = started(acme)
    viewer, stranger = MemberFactory(tenant=acme, role="viewer").user, UserFactory()
    urls = [f"{base}/tenants/{acme.public_id}/logs?follow=true", f"{base}/runs/{run.public_id}/events"]
    for url in urls:
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {bearer_of(stranger)}"}).status_code == 404
    refused = httpx.get(urls[0], headers={"Authorization": f"Bearer {bearer_of(viewer)}"})
    assert refused.status_code == 403


def test_m3_streams_are_capped_and_a_closed_one_makes_room(base, acme, owner, monkeypatch):
    monkeypatch.setattr(streams, "PER_USER", 2)
    run = started(acme)
    url, bearer = f"{base}/runs/{run.public_id}/events", bearer_of(owner)
    first, second = Stream(url, bearer), Stream(url, bearer)
    with first:
        refused = httpx.get(url, headers={"Authorization": f"Bearer {bearer}"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
        next(second.events())
    for _ in range(200):
        with Stream(url, bearer) as again:
            if again.response.status_code == 200:
                break
        threading.Event().wait(0.05)
    else:
        pytest.fail("a closed stream made no room")
    second.__exit__()


def test_m3_the_caps_count_users_tenants_and_all_and_lapse(monkeypatch):
    slots = streams.Slots()
    monkeypatch.setattr(streams, "PER_USER", 1)
    monkeypatch.setattr(streams, "PER_TENANT", 2)
    monkeypatch.setattr(streams, "IN_ALL", 3)
    held = [slots.take(1, 1), slots.take(2, 1)]
    for user, tenant in ((1, 2), (3, 1)):
        with pytest.raises(Exception, match="Too many"):
            slots.take(user, tenant)
    slots.take(3, 2)
    with pytest.raises(Exception, match="Too many"):
        slots.take(4, 3)
    slots.free(held[0])
    slots.renew(held[0])
    slots.take(4, 3)
    monkeypatch.setattr(streams, "LAPSE_S", -1)
    slots.renew(held[1])
    slots.take(5, 1)


def test_logs_are_followed_without_gap(base, acme, owner, engine):
    run = started(acme)
    execute(run.pk, PROCEDURE)
    agent = next(iter(engine.agents.values()))
    with Stream(f"{base}/tenants/{acme.public_id}/logs?follow=true&tail=10", bearer_of(owner)) as stream:
        events = stream.events()
        assert next(events)[1] == ["started"]
        seen = []
        for number in range(3):
            agent.output.append(f"same or {number // 2}")
            seen += next(events)[1]
        assert seen == ["same or 0", "same or 0", "same or 1"]


def test_a_line_of_an_agent_forges_no_event():
    event = streams.Event("lines", ["a\n\nevent: end\ndata: {}"]).encoded().decode()
    assert event.count("\n\n") == 1 and event.endswith("\n\n")


@pytest.mark.parametrize(
    ("work_s", "open_streams", "rest_s"), [(0.1, 1, 0.4), (0.1, 5, 2.0), (3.0, 5, 5.0), (0.0, 5, 0)]
)
def test_a_stream_rests_for_longer_than_it_worked_and_the_longer_the_more_there_are(
    monkeypatch, work_s, open_streams, rest_s
):
    """Or an agent that prints all it can, and five who read it, would have the process for themselves."""
    worked, rests = iter(n * work_s for n in range(100)), []

    async def rest(seconds):
        rests.append(seconds)

    monkeypatch.setattr(streams.time, "thread_time", lambda: next(worked))
    monkeypatch.setattr(streams.asyncio, "sleep", rest)
    held = [streams.slots.take(user, user) for user in range(open_streams)]

    async def read():
        events = iter([streams.Event("lines", ["x"]), streams.Event("lines", ["y"]), None])
        return [told async for told in streams._told(None, events, lambda: True, held[0])]

    told = asyncio.run(read())
    assert [piece.split(b"\n")[0] for piece in told[1:]] == [b"event: lines"] * 2
    assert rests == pytest.approx([rest_s, rest_s, max(rest_s, streams.POLL_S)])
