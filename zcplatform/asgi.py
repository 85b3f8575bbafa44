"""The server's entry: tenants' addresses to the door, everything else to Django.

The web's master loads it and its workers are forks of that, so loading it opens no connection and starts no thread.
"""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zcplatform.settings")
_django = get_asgi_application()

import zcplatform.urls  # noqa: E402, F401 - models need Django to be set up; else each worker would load them by itself
from tenants.door import Door  # noqa: E402
from tenants.door_http import Answer, ClientGone, DoorRequest, Receive, Send  # noqa: E402
from zcplatform.admission import Admission  # noqa: E402
from zcplatform.http_metrics import DOOR, REFUSED, timed  # noqa: E402
from zcplatform.lib.errors import Overloaded, RequestError, ZCError  # noqa: E402
from zcplatform.lib.redact import handling  # noqa: E402
from zcplatform.middleware import busy_page, is_for_programs  # noqa: E402

MAX_HEADERS = 200
MAX_HEADER_BYTES = 65_536
"""Of all headers together. The server itself counts only what it has not read to the end, and lets more through."""
_WATCHED = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
_door = Door()
_work, _watch = Admission(_django), Admission(_django, threads=2)
"""What watches the platform has threads of its own: an answer late by a second must not look like a failure."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """A host of a tenant never reaches Django, so the platform's pages are never served under a tenant's name."""
    with handling():
        await _serve(scope, receive, send)


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http" and _is_too_much(scope["headers"]):
        too_much = RequestError("There are more headers than anybody needs.", type="headers_too_large")
        await _refuse(DoorRequest(scope, receive), send, too_much)
    elif _door.handles(scope):
        await _door(scope, receive, timed(scope.get("method", ""), send, DOOR))
    elif scope["type"] == "http":
        await _to_django(scope, receive, send)
    else:
        await _django(scope, receive, send)


async def _to_django(scope: Any, receive: Receive, send: Send) -> None:
    """Once the body is here: Django would wait for it for ever, and write any size to a file before it looked."""
    request = DoorRequest(scope, receive)
    try:
        body = await request.body()
    except (RequestError, Overloaded) as error:
        await _refuse(request, send, error)
    except ClientGone:
        pass
    else:
        await _admit(request, _after(body, receive), send)


async def _admit(request: DoorRequest, receive: Receive, send: Send) -> None:
    admission = _watch if request.scope["path"] in _WATCHED else _work
    try:
        await admission(request.scope, receive, send, caller=request.network())
    except Overloaded as error:
        await _shed(request, send, error)


async def _shed(request: DoorRequest, send: Send, error: Overloaded) -> None:
    """In the form that whoever asked can read; the body has been read."""
    answer = Answer(timed(request.scope["method"], send, REFUSED), request.id)
    if is_for_programs(request.scope["path"]) or not any("text/html" in given for given in request.values(b"accept")):
        return await answer.error(error)
    return await answer.page(error.status, busy_page(), retry_after=error.details["retry_after"])


def _after(body: bytes, receive: Receive) -> Receive:
    """``receive`` once more from the beginning: the body as one message, then what the server has to say."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> dict[str, Any]:
        return next(given, None) or await receive()

    return again


async def _refuse(request: DoorRequest, send: Send, error: ZCError) -> None:
    """Whoever asked is told before Django sees anything of it."""
    answer = Answer(timed(request.scope["method"], send, REFUSED), request.id)
    await answer.error(error, close=await request.breaks_off())


def _is_too_much(headers: Any) -> bool:
    return len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await _door.aclose()
    await send({"type": "lifespan.shutdown.complete"})
