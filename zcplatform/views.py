"""Health answers and error pages: what belongs to no app."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from accounts import rates
from backups import results
from monitoring import heartbeats
from monitoring.models import Heartbeat
from tenants.models import Tenant
from tenants.routing.addresses import platform_hosts
from zcplatform.lib.client_ip import is_this_machine
from zcplatform.lib.envelope import to_envelope
from zcplatform.lib.errors import Forbidden
from zcplatform.middleware import error_page, request_id_of

log = structlog.get_logger(__name__)

HEARTBEATS = ("runs", "sweeps")
MAX_HEARTBEAT_AGE = timedelta(seconds=30)
# Anybody may ask, and each real look takes the database's write lock for a moment: one per second and process.
LOOK_SECONDS = 1.0
_looked = (0.0, "")
_stale = False
_migrated = False


@csrf_exempt  # no form leads here: another method is told that, not that its protection is missing
@require_safe
def health(_request: HttpRequest) -> HttpResponse:
    """This process answers; nothing more is said."""
    return HttpResponse("ok", content_type="text/plain")


@csrf_exempt
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 ``ok`` when requests can be served and work gets done, else 503 ``unready``; the log says why.

    200 ``stale`` when that is so, but the last backup or restore drill failed or is overdue: no reason to send requests
    elsewhere.
    """
    fault = _fault()
    word = "unready" if fault else "stale" if _stale else "ok"
    return HttpResponse(word, status=503 if fault else 200, content_type="text/plain")


@require_safe
def certificate(request: HttpRequest) -> HttpResponse:
    """Caddy asks, at the first handshake for a name, whether to get a certificate for it: 200 for the platform's own
    names and living tenants', 404 for all others. Only answered on this machine's own address."""
    name = request.GET.get("domain", "").lower().removesuffix(".")
    name_asked = request.get_host().rpartition(":")[0].strip("[]")
    here = is_this_machine(request.META.get("REMOTE_ADDR", ""), settings.BIND)
    if not here or name_asked not in ("127.0.0.1", "::1", "localhost", settings.BIND):
        raise Http404
    slug, _, domain = name.partition(".")
    known = name in platform_hosts() or (
        domain == settings.DOMAIN and Tenant.objects.alive().filter(slug=slug).exists()
    )
    return HttpResponse("ok" if known else "unknown", status=200 if known else 404, content_type="text/plain")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler for 400."""
    return _page(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler for 403."""
    return _page(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler for 404."""
    return _page(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler for 500; the exception has been logged."""
    return _page(request, Exception())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form came without its token, or from elsewhere."""
    log.warning("csrf_failed", reason=reason)
    message = "The form's protection against forgery has run out, or the form came from another site."
    return _page(request, Forbidden(message, type="csrf_failed"))


def _page(request: HttpRequest, error: Exception) -> HttpResponse:
    # A hostile host name or path makes no log line of its own; RequestLogMiddleware has told of the request.
    if isinstance(error, SuspiciousOperation):
        log.info("suspicious_request", kind=type(error).__name__)
    status, body = to_envelope(error, request_id_of(request))
    return error_page(request, status, body["error"])


def _fault() -> str:
    global _looked, _stale
    at, fault = _looked
    if time.monotonic() - at < LOOK_SECONDS:
        return fault
    found = _look()
    _stale = not found and any(guard.fault for guard in results.guards())
    if found and found != fault:
        log.warning("unready", reason=found)
    _looked = (time.monotonic(), found)
    return found


def _look() -> str:
    try:
        if not _is_migrated():
            return "unapplied migrations"
        _write_and_take_back()
        return _silent_redis() or _stale_heartbeat() or _hanging_task()
    except DatabaseError as error:
        return f"database: {error}"


def _is_migrated() -> bool:
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _migrated


def _silent_redis() -> str:
    reason = rates.fault()
    return f"redis: {reason}" if reason else ""


def _stale_heartbeat() -> str:
    fresh = Heartbeat.objects.filter(beat_at__gte=Now() - MAX_HEARTBEAT_AGE).values_list("name", flat=True)
    missing = set(HEARTBEATS) - set(fresh)
    return f"no heartbeat of {', '.join(sorted(missing))}" if missing else ""


def _hanging_task() -> str:
    found = heartbeats.late()
    return f"does not end: {', '.join(found)}" if found else ""


def _write_and_take_back() -> None:
    """DatabaseError when the database can't be written."""
    with transaction.atomic():
        Heartbeat.objects.create(name="readyz", beat_at=Now())
        transaction.set_rollback(True)
