"""``/metrics``: the platform's own, for whoever has the token."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from monitoring.exposition.collector import RowsCollector
from monitoring.exposition.ledger import Ledger
from zcplatform import __version__, http_metrics
from zcplatform.lib.errors import NotFound, Unauthenticated

_ledger = Ledger()


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' text format. 404 where no token is set, 401 without the right one in ``Authorization``."""
    _check(request)
    registry = CollectorRegistry(auto_describe=False)
    for collector in [RowsCollector(_ledger, __version__), *http_metrics.collectors()]:
        registry.register(collector)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _check(request: HttpRequest) -> None:
    wanted = settings.METRICS_TOKEN
    if not wanted:
        raise NotFound()
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), wanted.encode())
    if scheme.lower() != "bearer" or not same:
        raise Unauthenticated("Send the metrics token as “Authorization: Bearer …”.", type="invalid_token")
