"""What the agent printed: the last lines, then those to come (over the API's event stream)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

from tenants import operations
from tenants.models import Tenant
from tenants.pages.frame import Viewer, show, tenant_page
from zcplatform.lib import clock
from zcplatform.lib.errors import ZCError
from zcplatform.lib.terminal import visible

TAIL = 200
_ERROR = re.compile(r"\b(?:error|fatal|critical|panic|traceback|exception)\b", re.IGNORECASE)
_WARNING = re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class LogLine:
    """``level`` is error, warning or empty: a tint, told from the words in the line."""

    text: str
    level: str


@tenant_page("logs.read")
def logs_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The last lines, filtered by ``?q=``; without JavaScript a reload shows what came since."""
    needle, failed, text = request.GET.get("q", "")[:100], "", ""
    try:
        text = operations.read_logs(actor=viewer.actor, tenant=tenant, tail=TAIL)
    except ZCError as error:
        failed = error.message
    lines = [LogLine(line, level(line)) for line in text.splitlines() if needle.lower() in line.lower()]
    stream = f"/api/tenants/{tenant.public_id}/logs?follow=1&tail={TAIL}"
    context = {"lines": lines, "q": needle, "failed": failed, "tail": TAIL, "stream": stream}
    return show(request, "logs.html", tenant, viewer, "logs", **context)


@tenant_page("logs.read")
def download_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """As many lines as can be had, as a file."""
    text = operations.read_logs(actor=viewer.actor, tenant=tenant, tail=operations.MAX_TAIL)
    answer = HttpResponse(visible(text), content_type="text/plain; charset=utf-8")
    name = f"{tenant.slug}-{clock.now():%Y-%m-%d-%H%M%S}.log"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def level(line: str) -> str:
    return "error" if _ERROR.search(line) else "warning" if _WARNING.search(line) else ""
