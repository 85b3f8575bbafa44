"""How long HTTP requests take, for ``/metrics``.

Each web process writes its counts into files of its own under ``HOME/run/metrics`` (prometheus-client's multiprocess
mode, switched on by ``serve`` through ``PROMETHEUS_MULTIPROC_DIR``); the process that is asked sums them all. The
folder is emptied whenever the web starts, which Prometheus sees as a counter that began anew. Without ``serve``
(a development server, tests) one process counts for itself.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from zcplatform.middleware import GetResponse

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
DOOR = "door"
REFUSED = "refused"
"""Too many headers, a body too large or too slow: answered before it is known what was asked for."""
FILE_SIZE = 4 * 1_048_576
"""Bytes: some 1,800 different combinations of method, route and status; far more than there are."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

disable_created_metrics()  # the files of several processes know no such time either
_registry = CollectorRegistry()
_reserved: set[int] = set()
_durations = Histogram(
    "zcplatform_http_request_duration_seconds",
    "From a request's arrival to the head of its answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=_registry,
)


class TimingMiddleware:
    """Times every request that reaches Django. ``route`` is the pattern, never the address: its values are few."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = self.get_response(request)
        observe(request.method or "", _route(request, response), response.status_code, time.perf_counter() - began)
        return response


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request. What can't be counted is served all the same."""
    with suppress(OSError, ValueError):
        if VARIABLE in os.environ:
            _reserve(os.getpid())
        _durations.labels(method if method in _METHODS else "other", route, str(status)).observe(seconds)


def _reserve(pid: int) -> None:
    """Room on the disk for all that this process will count, before prometheus-client maps its file into memory: it
    would leave the file sparse, and a page that the full disk has no room for is a SIGBUS, the end of the process."""
    if pid in _reserved:
        return
    path = Path(os.environ[VARIABLE]) / f"histogram_{pid}.db"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, FILE_SIZE)
    except OSError:
        path.unlink(missing_ok=True)  # else it would be taken for what it is: too small
        raise
    finally:
        os.close(descriptor)
    _reserved.add(pid)


def timed(method: str, send: Any, route: str) -> Any:
    """An ASGI ``send`` that counts the request, which arrives now, when the head of its answer goes out."""
    began = time.perf_counter()

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            observe(method, route, message["status"], time.perf_counter() - began)
        await send(message)

    return sending


def collectors() -> list[Collector]:
    """What ``/metrics`` has to register: the files of all processes, or this one's counts."""
    return [MultiProcessCollector(None)] if VARIABLE in os.environ else [_registry]


def folder() -> Path:
    """Where the web processes of ``serve`` write."""
    return Path(settings.HOME) / "run" / "metrics"


def begin() -> None:
    """Empty the folder; called by ``serve`` before each start of the web."""
    shutil.rmtree(folder(), ignore_errors=True)
    folder().mkdir(parents=True, mode=0o700)


def _route(request: HttpRequest, response: HttpResponseBase) -> str:
    match = request.resolver_match
    if match is not None:
        return f"/{match.route}"
    return "static" if response.status_code < 400 else "unmatched"
