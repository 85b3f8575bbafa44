"""Server-sent events: how many may be open, when one is cut, and how it looks on the wire.

A stream is an iterator of ``Event`` that never waits long: it yields None where there is nothing to tell just now.
Each turn runs in a thread of the streams' own, so that neither requests nor chats wait for them; and it is followed by
a rest as long as its work was, several times over, so that an agent that prints all it can takes no process for itself.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse

from accounts.auth import actor_of, still_valid
from tenants.access import can
from tenants.models import Tenant
from zcplatform.lib.apidocs import about
from zcplatform.lib.envelope import to_envelope
from zcplatform.lib.errors import RateLimited, ZCError

PER_USER, PER_TENANT, IN_ALL = 5, 20, 200
"""Open streams in each web process."""
POLL_S = 0.5
CHECK_S = 2.0
HEARTBEAT_S = 15.0
LONGEST_S = 3_600.0
LAPSE_S = 60.0
REST, LONGEST_REST_S = 4, 5.0
"""After a turn its stream rests for so many times the processor's time that it took, times the number of open streams:
all of them together leave four fifths of it to everybody else. Never for longer than the seconds beside it."""

T = TypeVar("T")
_threads = ThreadPoolExecutor(8, thread_name_prefix="streams")


@dataclass(frozen=True)
class Event:
    """``id`` only where a client may resume after it."""

    type: str
    data: Any
    id: int | None = None

    def encoded(self) -> bytes:
        """As it goes out: JSON holds no line break, so no text of an agent's can forge a field."""
        head = f"id: {self.id}\n" if self.id is not None else ""
        return f"{head}event: {self.type}\ndata: {json.dumps(self.data, cls=DjangoJSONEncoder)}\n\n".encode()


class Slots:
    """Who has a stream open. A slot that its stream does not renew lapses, whatever became of the stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[object, tuple[int, int, float]] = {}

    def take(self, user: int, tenant: int) -> object:
        """A slot. RateLimited ``too_many_streams``."""
        with self._lock:
            now = time.monotonic()
            self._held = {slot: held for slot, held in self._held.items() if held[2] > now}
            users, tenants = ([held[number] for held in self._held.values()] for number in (0, 1))
            if users.count(user) >= PER_USER or tenants.count(tenant) >= PER_TENANT or len(users) >= IN_ALL:
                raise RateLimited("Too many event streams are open.", type="too_many_streams", retry_after=5)
            slot = object()
            self._held[slot] = (user, tenant, now + LAPSE_S)
            return slot

    def renew(self, slot: object) -> None:
        with self._lock:
            if slot in self._held:
                user, tenant, _ = self._held[slot]
                self._held[slot] = (user, tenant, time.monotonic() + LAPSE_S)

    def number(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._held)

    def free(self, slot: object) -> None:
        with self._lock:
            self._held.pop(slot, None)


slots = Slots()


def answer(request: HttpRequest, tenant: Tenant, ability: str, events: Iterator[Event | None]) -> StreamingHttpResponse:
    """The response that tells ``events`` until they end, the caller may not see them any more, or an hour is over."""
    slot = slots.take(actor_of(request).user_id or 0, tenant.pk)

    def allowed() -> bool:
        return still_valid(request) and can(actor_of(request), ability, Tenant.objects.get(pk=tenant.pk))

    response = StreamingHttpResponse(_told(request, events, allowed, slot), content_type="text/event-stream")
    response["X-Accel-Buffering"] = "no"
    response["Cache-Control"] = "no-store"
    return response


def documented(*statuses: int) -> dict[str, Any]:
    """A route's ``openapi_extra``: a stream of events, or an error."""
    extra = about(*statuses)
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    extra["responses"][200] = {"description": "The events.", "content": content}
    return extra


async def _told(
    request: HttpRequest, events: Iterator[Event | None], allowed: Callable[[], bool], slot: object
) -> AsyncIterator[bytes]:
    began = checked = spoke = time.monotonic()
    try:
        yield b": \n\n"  # so that the client knows at once that it is connected
        while time.monotonic() - began < LONGEST_S:
            if time.monotonic() - checked >= CHECK_S:
                checked = time.monotonic()
                slots.renew(slot)
                if not await _in_thread(allowed):
                    yield Event("cut", {"reason": "no_longer_allowed"}).encoded()
                    return
            told, work_s = await _in_thread(_turn, events)
            if told is None:
                return
            if told:
                spoke = time.monotonic()
                yield told
            elif time.monotonic() - spoke >= HEARTBEAT_S:
                spoke = time.monotonic()
                yield b": \n\n"
            await asyncio.sleep(max(0 if told else POLL_S, _rest_after(work_s)))
    except ZCError as error:
        yield Event("error", to_envelope(error, getattr(request, "request_id", ""))[1]).encoded()
    finally:
        slots.free(slot)


def _turn(events: Iterator[Event | None]) -> tuple[bytes | None, float]:
    """What is told next, empty where there is nothing just now and None at the end; and the seconds of work in it."""
    began = time.thread_time()
    try:
        event = next(events)
    except StopIteration:
        return None, 0.0
    return event.encoded() if event else b"", time.thread_time() - began


def _rest_after(work_s: float) -> float:
    return min(LONGEST_REST_S, work_s * REST * slots.number())


async def _in_thread(act: Callable[..., T], *args: Any) -> T:
    return await sync_to_async(_with_connection, thread_sensitive=False, executor=_threads)(act, *args)


def _with_connection(act: Callable[..., T], *args: Any) -> T:
    close_old_connections()
    try:
        return act(*args)
    finally:
        close_old_connections()
