"""What the agent printed: the last lines, then those to come (over the API's event stream)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

from tenants import operations
from tenants.models import Tenant
from tenants.pages.frame import Viewer, show, tenant_page
from zcplatform.lib import clock
from zcplatform.lib.ansi import Piece, pieces, plain
from zcplatform.lib.errors import ZCError
from zcplatform.lib.terminal import visible
from zcplatform.lib.text import lines_of

TAIL = 200
_ERROR = re.compile(r"\b(?:error|fatal|critical|panic|traceback|exception)\b", re.IGNORECASE)
_WARNING = re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class LogLine:
    """``level`` is error, warning or empty: a tint, told from the words in the line. ``time`` is empty where nobody
    knows it."""

    time: str
    pieces: list[Piece]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def level(self) -> str:
        return "error" if _ERROR.search(self.text) else "warning" if _WARNING.search(self.text) else ""


@tenant_page("logs.read")
def logs_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The last lines, filtered by ``?q=``; without JavaScript a reload shows what came since."""
    needle, failed, text = request.GET.get("q", "")[:100], "", ""
    try:
        text = operations.read_logs(actor=viewer.actor, tenant=tenant, tail=TAIL, times=True)
    except ZCError as error:
        failed = error.message
    lines = [line for line in map(log_line, lines_of(text)) if needle.lower() in line.text.lower()]
    stream = f"/api/tenants/{tenant.public_id}/logs?follow=1&times=1&tail={TAIL}"
    context = {"lines": lines, "q": needle, "failed": failed, "tail": TAIL, "stream": stream}
    return show(request, "logs.html", tenant, viewer, "logs", **context)


@tenant_page("logs.read")
def download_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """As many lines as can be had, as a file."""
    text = operations.read_logs(actor=viewer.actor, tenant=tenant, tail=operations.MAX_TAIL, times=True)
    answer = HttpResponse(visible(plain(text)), content_type="text/plain; charset=utf-8")
    name = f"{tenant.slug}-{clock.now():%Y-%m-%d-%H%M%S}.log"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def log_line(line: str) -> LogLine:
    """A line that begins with its time, or with a hyphen."""
    time, _, text = line.partition(" ")
    return LogLine("" if time == "-" else time, pieces(text))
