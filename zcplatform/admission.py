"""Load shedding: how many requests Django works on at a time, how many wait, and who is told to come back later.

Beyond what a process can do, every further request that is let in makes all of them slower until nobody is answered in
time. So a few threads work, a bounded number of requests wait for one, none of them longer than ``WAIT_S``, and the
rest is told 503 with Retry-After at once. The threads stay, and with them their database connections.

Callers take turns: who sends many requests waits behind their own, and the longest line is shortened first. A turn
comes when a thread is free; so that nobody waits for those who keep all of them busy, whoever has several lends one to
who has none.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from asgiref.sync import ThreadSensitiveContext

from zcplatform.lib.errors import Overloaded

THREADS = 6
LINE = 96
WAIT_S = 0.7
LONG_S = 2.0
"""A request that takes longer is taken to wait for something else (an engine, a provider): its place is lent out."""
STARVED_S = 0.2
"""Who has no place at all waits for so long, before one of somebody who has several is lent out."""
MAX_LONG = 56
MAX_LONG_EACH = 12
"""Of one caller: whoever has so many is told to come back, so that nobody else waits for what they wait for."""

App = Callable[[Any, Any, Any], Awaitable[None]]
Waiting = asyncio.Future[Executor]


class Admission:
    """The way into ``app``, for one process and its one event loop. ``threads`` work, ``line`` requests wait."""

    def __init__(self, app: App, *, threads: int = THREADS, line: int = LINE) -> None:
        self._app, self._line = app, line
        self._free: list[Executor] = [_thread() for _ in range(threads)]
        self._lines: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._long: Counter[str] = Counter()
        self._at_work: dict[_Place, None] = {}  # the oldest first; without what is lent out

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any, *, caller: str) -> None:
        """Overloaded when no thread is to be had in time; nothing has been sent then. ``caller`` is who takes turns."""
        place = _Place(self, await self._thread(caller), caller)
        try:
            async with ThreadSensitiveContext(executor=place.thread):
                await self._app(scope, receive, place.watching(send))
        finally:
            place.leave()

    async def _thread(self, caller: str) -> Executor:
        if self._has_too_many(caller):
            raise Overloaded
        if self._free:
            return self._free.pop()
        mine: Waiting = asyncio.get_running_loop().create_future()
        self._lines.setdefault(caller, deque()).append(mine)
        if sum(map(len, self._lines.values())) > self._line:
            self._shorten_the_longest()
        timers = (_after(WAIT_S, _shed, mine), _after(STARVED_S, self._feed, caller, mine))
        try:
            return await mine
        except asyncio.CancelledError:
            if _was_given(mine):  # in this very moment
                self.hand_out(mine.result())
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self._step_out(caller, mine)

    def _feed(self, caller: str, mine: Waiting) -> None:
        """Lend out the oldest place of somebody who has several, where this caller has none."""
        held = Counter(place.caller for place in self._at_work)
        one = next((place for place in self._at_work if held[place.caller] > 1), None)
        if one is not None and not mine.done() and not held[caller]:
            self._lines.move_to_end(caller, last=False)
            one.lend()

    def _shorten_the_longest(self) -> None:
        caller, line = max(self._lines.items(), key=lambda item: len(item[1]))
        last = line[-1]
        self._step_out(caller, last)
        _shed(last)

    def _step_out(self, caller: str, one: Waiting) -> None:
        line = self._lines.get(caller, deque())
        with suppress(ValueError):  # who was given a thread has left the line already
            line.remove(one)
        if not line:
            self._lines.pop(caller, None)

    def hand_out(self, thread: Executor) -> None:
        """To the caller whose turn it is, or to nobody yet."""
        while self._lines:
            caller, line = next(iter(self._lines.items()))
            first = line[0]
            self._lines.move_to_end(caller)
            self._step_out(caller, first)
            if self._has_too_many(caller):
                _shed(first)
            if not first.done():
                first.set_result(thread)
                return
        self._free.append(thread)

    def enter(self, place: _Place) -> None:
        self._at_work[place] = None

    def forget(self, place: _Place) -> None:
        self._at_work.pop(place, None)

    def lend(self, caller: str) -> bool:
        """Let one more thread work in place of one that waits for something else; False when too many wait so."""
        if self._long.total() >= MAX_LONG:
            return False
        self._long[caller] += 1
        self.hand_out(_thread())
        return True

    def take_back(self, caller: str) -> None:
        self._long[caller] -= 1
        self._long += Counter()  # forgets who has none

    def _has_too_many(self, caller: str) -> bool:
        return self._long[caller] >= MAX_LONG_EACH


class _Place:
    """One request's thread, and what has become of its place among those that work."""

    def __init__(self, admission: Admission, thread: Executor, caller: str) -> None:
        self.thread, self.caller, self._admission = thread, caller, admission
        self._is_lent = self._is_stream = False
        self._timer = _after(LONG_S, self.lend)
        admission.enter(self)

    def watching(self, send: Any) -> Any:
        """``send``, which sees a stream of events begin: the stream has a limit of its own, and needs no place here."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and _is_events(message) and not self._is_lent:
                self._timer.cancel()
                self._admission.forget(self)
                self._is_stream = True
                self._admission.hand_out(_thread())
            await send(message)

        return sending

    def leave(self) -> None:
        self._timer.cancel()
        self._admission.forget(self)
        if self._is_lent:
            self._admission.take_back(self.caller)
        if self._is_lent or self._is_stream:
            self.thread.shutdown(wait=False)
        else:
            self._admission.hand_out(self.thread)

    def lend(self) -> None:
        """Let another thread work in its place, where not too many are lent already."""
        self._is_lent = self._admission.lend(self.caller)
        if self._is_lent:
            self._timer.cancel()
            self._admission.forget(self)


def _thread() -> Executor:
    """One thread, as Django wants it for the synchronous part of a request."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")


def _after(seconds: float, act: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, act, *args)


def _shed(one: Waiting) -> None:
    if not one.done():
        one.set_exception(Overloaded())


def _was_given(one: Waiting) -> bool:
    return one.done() and not one.cancelled() and one.exception() is None


def _is_events(message: Any) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )
