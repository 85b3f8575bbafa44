"""More requests than can be worked on: a few work, some wait, the rest is told to come back; nothing is lost by it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async

from zcplatform import admission, asgi
from zcplatform.admission import Admission
from zcplatform.lib.errors import Overloaded

LIMIT_S = 20
EVENTS = [(b"content-type", b"text/event-stream")]


class Work:
    """An application whose requests are busy in a thread until they are let go, by their callers' names."""

    def __init__(self):
        self.began: list[str] = []
        self.threads: set[int] = set()
        self.go = {}

    async def __call__(self, scope, receive, send):
        await sync_to_async(self._work)(scope["name"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def _work(self, name):
        self.threads.add(threading.get_ident())
        self.began.append(name)
        assert self.go.setdefault(name, threading.Event()).wait(LIMIT_S)

    def release(self, *names):
        for name in names:
            self.go.setdefault(name, threading.Event()).set()


async def nothing(_message=None):
    pass


def ask(way_in, name, caller="somebody"):
    return asyncio.ensure_future(way_in({"name": name}, nothing, nothing, caller=caller))


async def until(true):
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.002)


def play(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), LIMIT_S * 2))


@pytest.fixture
def patient(monkeypatch):
    """Nobody's wait is over, and nobody is taken to wait for something else."""
    monkeypatch.setattr(admission, "WAIT_S", LIMIT_S)
    monkeypatch.setattr(admission, "LONG_S", LIMIT_S)


def test_a_few_work_at_a_time_in_threads_that_stay(patient):
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=2)
        asked = [ask(way_in, str(number)) for number in range(6)]
        await until(lambda: len(work.began) == 2)
        await asyncio.sleep(0.05)
        assert work.began == ["0", "1"]
        work.release(*map(str, range(6)))
        await asyncio.gather(*asked)

    play(scenario)
    assert work.began[:2] == ["0", "1"] and sorted(work.began) == list("012345")
    assert len(work.threads) == 2  # so their database connections are opened twice, not six times


def test_who_has_waited_long_enough_is_told_and_never_worked_on(monkeypatch):
    monkeypatch.setattr(admission, "WAIT_S", 0.05)
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1)
        first = ask(way_in, "first")
        await until(lambda: work.began == ["first"])
        with pytest.raises(Overloaded):
            await ask(way_in, "late")
        work.release("first", "next")
        await first
        await ask(way_in, "next")

    play(scenario)
    assert work.began == ["first", "next"]


def test_a_full_line_is_shortened_at_once_and_by_the_caller_who_fills_it(patient):
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1, line=3)
        asked = [ask(way_in, f"flood {number}", "flood") for number in range(4)]  # one works, three wait
        await until(lambda: work.began)
        victim = ask(way_in, "victim", "victim")
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert done == {asked[3]} and isinstance(asked[3].exception(), Overloaded)
        more = ask(way_in, "flood 5", "flood")  # again the flood's own, never the other's
        with pytest.raises(Overloaded):
            await more
        work.release("flood 0", "flood 1", "flood 2", "victim")
        await asyncio.gather(victim, *asked[:3])

    play(scenario)
    assert work.began.index("victim") <= 2  # callers take turns: not behind all of the flood


def test_one_that_waits_for_something_else_lends_its_place_and_only_so_many_do(monkeypatch):
    monkeypatch.setattr(admission, "LONG_S", 0.02)
    monkeypatch.setattr(admission, "MAX_LONG", 2)
    monkeypatch.setattr(admission, "WAIT_S", LIMIT_S)
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1)
        slow = [ask(way_in, f"slow {number}") for number in range(4)]
        await until(lambda: len(work.began) == 3)  # two have lent their place, one works
        await asyncio.sleep(0.1)
        assert len(work.began) == 3
        work.release("slow 0", "slow 1", "slow 2", "slow 3", "after")
        await asyncio.gather(*slow)
        await ask(way_in, "after")
        assert len(way_in._free) == 1 and not way_in._long  # what was lent came back, and no more than that

    play(scenario)


def test_what_one_caller_waits_for_leaves_places_to_everybody_else(monkeypatch):
    monkeypatch.setattr(admission, "LONG_S", 0.02)
    monkeypatch.setattr(admission, "MAX_LONG", 6)
    monkeypatch.setattr(admission, "MAX_LONG_EACH", 2)
    monkeypatch.setattr(admission, "WAIT_S", LIMIT_S)
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1)
        slow = [ask(way_in, f"slow {number}", "greedy") for number in range(20)]
        await asyncio.wait(slow[2:], timeout=LIMIT_S, return_when=asyncio.FIRST_EXCEPTION)
        other = ask(way_in, "other", "other")
        await until(lambda: "other" in work.began)
        with pytest.raises(Overloaded):
            await asyncio.wait_for(ask(way_in, "one more", "greedy"), LIMIT_S)
        work.release("other", *(f"slow {number}" for number in range(20)), "after")
        await other
        done = await asyncio.gather(*slow, return_exceptions=True)
        assert sum(isinstance(one, Overloaded) for one in done) >= 17
        await ask(way_in, "after", "greedy")  # who has none any more is let in again
        assert len(way_in._free) == 1 and not way_in._long

    play(scenario)


@pytest.mark.parametrize("greedy", [["a"], ["a", "b"]], ids=["one", "two together"])
def test_who_keeps_every_thread_busy_lends_one_to_who_has_none(patient, greedy):
    """However short each of their requests is, nobody waits for one to end."""
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=4)
        slow = [ask(way_in, f"slow {number}", greedy[number % len(greedy)]) for number in range(8)]
        await until(lambda: len(work.began) == 4)
        victim = ask(way_in, "victim", "victim")
        await until(lambda: "victim" in work.began)
        assert work.began == ["slow 0", "slow 1", "slow 2", "slow 3", "victim"]  # not those that wait before it
        assert way_in._long == {"a": 1}
        work.release("victim", *(f"slow {number}" for number in range(8)))
        await asyncio.gather(victim, *slow)
        assert len(way_in._free) == 4 and not way_in._long and not way_in._at_work

    play(scenario)


def test_among_many_callers_with_one_place_each_nobody_lends(patient, monkeypatch):
    """That is load and no greed: one more at a time would be slower for all."""
    monkeypatch.setattr(admission, "STARVED_S", 0.01)
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=2)
        asked = [ask(way_in, str(number), f"caller {number}") for number in range(4)]
        await until(lambda: len(work.began) == 2)
        await asyncio.sleep(0.1)
        assert work.began == ["0", "1"] and not way_in._long
        work.release(*map(str, range(4)))
        await asyncio.gather(*asked)

    play(scenario)


def test_a_stream_of_events_takes_no_place_once_it_has_begun(patient):
    open_streams = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await open_streams.wait()

    async def scenario():
        way_in = Admission(app, threads=1)
        streams = [ask(way_in, "stream") for _ in range(5)]
        await until(lambda: not way_in._lines and len(way_in._free) == 1)
        assert not any(stream.done() for stream in streams)
        open_streams.set()
        await asyncio.gather(*streams)
        assert len(way_in._free) == 1

    play(scenario)


def test_who_hangs_up_while_waiting_or_in_the_moment_of_their_turn_loses_no_thread(patient):
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1)
        first = ask(way_in, "first")
        await until(lambda: work.began == ["first"])
        gone, given, last = ask(way_in, "gone"), ask(way_in, "given"), ask(way_in, "last")
        await until(lambda: sum(map(len, way_in._lines.values())) == 3)
        gone.cancel()
        await asyncio.wait([gone])
        hand_out = way_in.hand_out

        def cancelling(thread):
            hand_out(thread)
            given.cancel()  # it has the thread, and has not woken yet

        way_in.hand_out = cancelling
        work.release("first", "last")
        await asyncio.gather(first, last)
        assert given.cancelled() and len(way_in._free) == 1 and not way_in._lines

    play(scenario)
    assert work.began == ["first", "last"]


def test_a_thread_whose_caller_hung_up_is_given_to_nobody_before_it_has_ended(patient):
    work = Work()

    async def scenario():
        way_in = Admission(work, threads=1)
        first = ask(way_in, "first")
        await until(lambda: work.began == ["first"])
        first.cancel()
        after = ask(way_in, "after")
        await asyncio.sleep(0.05)
        assert work.began == ["first"] and not way_in._free
        work.release("first", "after")
        await after

    play(scenario)


def told(path, *headers):
    """What the entry answers when every thread is taken."""
    sent = []

    async def scenario():
        async def busy(*_args, **_kwargs):
            raise Overloaded

        said = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive():
            return next(said, None) or await asyncio.Future()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"testserver"), *headers]}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asgi, "_work", busy)
            await asgi.application(scope, receive, send)

    play(scenario)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("headers", [[], [(b"accept", b"text/html")]])
def test_a_program_is_told_in_the_envelope_when_to_come_back(headers):
    status, answered, body = told("/api/tenants", *headers)
    assert status == 503 and answered[b"retry-after"] == b"2" and b'"overloaded"' in body


def test_a_person_reads_a_page_that_says_what_to_do(settings):
    status, answered, body = told("/tenants", (b"accept", b"text/html,*/*"))
    assert status == 503 and answered[b"retry-after"] == b"2" and answered[b"content-type"].startswith(b"text/html")
    assert b"The platform is busy" in body and b"content-security-policy" in answered


@pytest.mark.django_db
def test_what_watches_the_platform_is_answered_while_all_else_is_shed():
    assert told("/healthz")[0] == 200
