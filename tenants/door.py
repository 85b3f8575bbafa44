"""The chat door, pure ASGI: what the platform itself answers at a tenant's address, and nothing else.

Mounted before Django in ``zcplatform.asgi``. Tenant and agent follow from the host (or ``/t/{slug}``) and the access
token, which must agree. The agent's own secret never leaves the platform.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings

from tenants import door_pair
from tenants.agents import agent_kind
from tenants.door_access import Agent, admit, in_database, known_since, public_agent
from tenants.door_chat import parse, weight
from tenants.door_http import Answer, ClientGone, DoorRequest, MethodNotAllowed, Place, Receive, Scope, Send, place_of
from tenants.door_public import request_headers, response_headers, serves
from tenants.door_tally import Tally
from tenants.door_upstream import Upstream, whole
from tenants.routing.base import CHAT_PATH, MAX_WEBHOOK_BODY, MODELS_PATH, PAIR_PATH
from zcplatform.lib.errors import BadUpstream, DependencyTimeout, NotFound, RateLimited, ZCError
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.request_ids import client_request_id

MAX_CHAT_S = 3_600
PUBLIC_AT_ONCE, PUBLIC_EACH = 40, 20
"""Requests for one tenant's public paths at a time, and those of one network among them: an agent that never answers
would otherwise take every connection that the chats of all tenants share."""
MODEL = "agent"
POLICY_VIOLATION = 1008

log = logging.getLogger(__name__)


class Door:
    """One per process. ``handles`` tells whether a request is the door's; ``aclose`` ends its connections."""

    def __init__(self) -> None:
        self._upstream = Upstream()
        self._busy: Counter[Hashable] = Counter()
        self._tally = Tally()

    @staticmethod
    def handles(scope: Scope) -> bool:
        return scope["type"] in ("http", "websocket") and place_of(scope) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # agents' own ones go through Caddy and never come here
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        request = DoorRequest(scope, receive)
        with structlog.contextvars.bound_contextvars(**client_request_id("".join(request.values(b"x-request-id")))):
            await self._answer(request, Answer(send, request.id), place_of(scope) or Place("", "/"))

    async def _answer(self, request: DoorRequest, answer: Answer, place: Place) -> None:
        began = time.monotonic()
        try:
            await self._serve(place, request, answer)
        except ClientGone:
            log.info("chat aborted by the client", extra={"request_id": request.id, "tenant": place.slug})
            return
        except Exception as error:
            if not isinstance(error, ZCError):
                log.exception("the door failed", extra={"request_id": request.id, "tenant": place.slug})
            await answer.error(error, close=await request.breaks_off())
        log.info(
            "door",
            extra={
                "request_id": request.id,
                "tenant": place.slug,
                "status": answer.status,
                "ms": round((time.monotonic() - began) * 1_000),
            },
        )

    async def aclose(self) -> None:
        await self._tally.aclose()
        await self._upstream.aclose()

    async def _serve(self, place: Place, request: DoorRequest, answer: Answer) -> None:
        ours = {CHAT_PATH: self._chat, MODELS_PATH: self._models, PAIR_PATH: self._pair}
        if act := ours.get(place.path.removesuffix("/")):
            await act(place, request, answer)
        elif place.direct:
            await self._public(place, request, answer)
        else:
            raise NotFound

    async def _chat(self, place: Place, request: DoorRequest, answer: Answer) -> None:
        if request.scope["method"] != "POST":
            raise MethodNotAllowed("Chat is a POST.")
        agent, secret = await in_database(admit, place.slug, request.bearer(), caller=request.network())
        full = RateLimited("Too many chats of this tenant at once.", type="too_many_chats", retry_after=5)
        with self._places({agent.tenant_id: settings.CHATS_PER_TENANT}, full):
            async with request.large_body(settings.DOOR_BODY_MAX) as (content, takes):
                takes(weight(content))
                body = parse(content)
                del content
                await request.while_connected(self._converse(agent, secret, body, answer))

    async def _models(self, place: Place, request: DoorRequest, answer: Answer) -> None:
        """Many a client asks it first, and offers what is in it: the one model that a chat here can have."""
        if request.scope["method"] != "GET":
            raise MethodNotAllowed("The models are a GET.", allow="GET")
        created = await in_database(known_since, place.slug, request.bearer(), caller=request.network())
        model = {"id": MODEL, "object": "model", "created": created, "owned_by": place.slug}
        await answer.json(200, {"object": "list", "data": [model]})

    async def _pair(self, place: Place, request: DoorRequest, answer: Answer) -> None:
        if request.scope["method"] != "POST":
            raise MethodNotAllowed("Pairing is a POST.")
        body = door_pair.parse(await request.json_body())
        asked = door_pair.pair, place.slug, body, request.ip(), request.id
        await answer.json(200, await in_database(*asked, caller=request.network()))

    @contextmanager
    def _places(self, wanted: dict[Hashable, int], full: RateLimited) -> Iterator[None]:
        """A place of each kind; ``full`` where there are as many already as the number that stands beside it."""
        if any(self._busy[kind] >= number for kind, number in wanted.items()):
            raise full
        self._busy.update(wanted.keys())
        try:
            yield
        finally:
            self._busy.subtract(wanted.keys())
            self._busy += Counter()  # forgets what nobody has

    async def _converse(self, agent: Agent, secret: SecretStr, body: dict[str, Any], answer: Answer) -> None:
        kind = agent_kind(agent.kind)
        call = kind.chat_call(body, secret)
        try:
            async with asyncio.timeout(MAX_CHAT_S), self._upstream.chat(agent, call) as response:
                self._tally.count(agent.tenant_id, messages_in=1)
                if body.get("stream"):
                    await self._pass_on(agent, kind.chat_stream(body, response.aiter_raw()), answer)
                else:
                    reply = kind.chat_reply(body, await whole(response))
                    self._tally.count(agent.tenant_id, messages_out=1)
                    await self._tally.written()
                    await answer.json(200, reply)
        except TimeoutError as error:
            raise DependencyTimeout("The agent did not come to an end.", type="agent_timeout") from error

    async def _pass_on(self, agent: Agent, events: AsyncIterator[bytes], answer: Answer) -> None:
        """Forward events as they come. The answer begins with the first, so that an error before it has a status."""
        first = await anext(events, None)
        if first is None:
            raise BadUpstream("The agent's answer is empty.")
        # Now: with the last byte the client is gone, and this task with it.
        self._tally.count(agent.tenant_id, messages_out=1)
        await answer.start_events()
        await answer.write(first)
        async for event in events:
            await answer.write(event)
        await self._tally.written()
        await answer.write(b"", more=False)

    async def _public(self, place: Place, request: DoorRequest, answer: Answer) -> None:
        agent = await in_database(public_agent, place.slug, caller=request.network())
        path = request.below(place)
        if not path or not serves(agent_kind(agent.kind).public_paths, place.path):
            raise NotFound
        body, public = await request.body(MAX_WEBHOOK_BODY), ("public", agent.tenant_id)
        full = RateLimited("Too many requests to this agent at once.", retry_after=5)
        with self._places({public: PUBLIC_AT_ONCE, (*public, request.network()): PUBLIC_EACH}, full):
            await request.while_connected(self._forward(agent, path.decode("latin-1"), request, body, answer))

    async def _forward(self, agent: Agent, path: str, request: DoorRequest, body: bytes, answer: Answer) -> None:
        headers = request_headers(request.scope["headers"])
        async with self._upstream.send(request.scope["method"], agent, path, headers, body) as response:
            await answer.start(response.status_code, response_headers(response.headers.raw))
            async for chunk in response.aiter_raw():
                await answer.write(chunk)
            await answer.write(b"", more=False)
