"""The outgoing heartbeat: a service outside expects a call every minute and raises the alarm when none comes. It sees
what the platform can't say of itself: that it, its workers, its host or its network are gone."""

from __future__ import annotations

import structlog
from django.conf import settings

from zcplatform.lib import http
from zcplatform.lib.errors import ZCError

log = structlog.get_logger(__name__)

PATIENCE_S = 10.0


def ping() -> bool:
    """GET ``HEARTBEAT_URL`` where one is set; True when it was answered with 2xx. The next minute is the next try."""
    if not settings.HEARTBEAT_URL:
        return False
    try:
        reply = http.request("GET", settings.HEARTBEAT_URL, total_s=PATIENCE_S, max_bytes=65_536)
    except ZCError as error:
        log.warning("heartbeat_not_sent", type=error.type)
        return False
    if not reply.ok:
        log.warning("heartbeat_refused", status=reply.status)
    return reply.ok
