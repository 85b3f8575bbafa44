"""What a tenant's agent printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import Field

from accounts.auth import actor_of
from tenants import operations
from tenants.api import streams
from tenants.api.common import find
from tenants.models import Tenant
from zcplatform.lib.actors import Actor
from zcplatform.lib.schemas import In, Out
from zcplatform.lib.text import lines_of

router = Router(tags=["operation"])


class LogQuery(In):
    """How much, and whether to stay."""

    tail: int = Field(
        100, ge=1, description=f"Lines; more than {operations.MAX_TAIL} is taken as {operations.MAX_TAIL}."
    )
    times: bool = Field(
        False, description="Begin each line with its time in UTC (a hyphen where nobody knows it) and a space."
    )
    follow: bool = Field(False, description="Go on with new lines, as server-sent events.")


class LogsOut(Out):
    """The last lines, oldest first."""

    lines: list[str]


def _documented() -> dict[str, Any]:
    extra = streams.documented(404, 429, 503, 504)
    extra["responses"][200]["content"]["application/json"] = {"schema": LogsOut.model_json_schema()}
    return extra


@router.get("/{tenant_id}/logs", response=LogsOut, summary="A tenant's logs", openapi_extra=_documented())
def get_logs(request: HttpRequest, tenant_id: UUID, query: Query[LogQuery]) -> Any:
    """Without the tenant's secrets. With `follow`, events of the type `lines`, first the last ones and then those to
    come, each a list of texts; the stream is cut when you may not read them any more. At most 5 streams of a user and
    20 of a tenant are open at once in each web process."""
    tenant, actor = find(request, tenant_id, "logs.read"), actor_of(request)
    if query.follow:
        return streams.answer(request, tenant, "logs.read", _followed(actor, tenant, query))
    text = operations.read_logs(actor=actor, tenant=tenant, tail=query.tail, times=query.times)
    return {"lines": lines_of(text)}


def _followed(actor: Actor, tenant: Tenant, query: LogQuery) -> Iterator[streams.Event | None]:
    """The first event comes at once, also where there is nothing yet."""
    texts = operations.follow_logs(actor=actor, tenant=tenant, tail=query.tail, times=query.times)
    for turn, text in enumerate(texts):
        yield streams.Event("lines", lines_of(text)) if text or turn == 0 else None
