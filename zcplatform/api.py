"""The JSON API: mounts each app's router, knows every caller, and answers every error in the one envelope."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation

import accounts.api
import tenants.api
from accounts.auth import Credentials
from monitoring.alerting import api as alerting_api
from monitoring.api import fleet as monitoring_router
from monitoring.api import tenant_router as tenant_monitoring_router
from zcplatform import __version__
from zcplatform.lib.errors import InvalidField
from zcplatform.middleware import json_error
from zcplatform.openapi import DESCRIPTION, complete

Run = Callable[..., Any]


class PlatformAPI(NinjaAPI):
    """ninja's API with our description of it."""

    def get_openapi_schema(self, **options: Any) -> Any:
        """OpenAPI 3.1, with the errors that every route shares."""
        return complete(super().get_openapi_schema(**options))


def answer_errors(api: NinjaAPI) -> None:
    """Every exception in the one envelope. ninja has handlers of its own for the last three, which are replaced."""
    for kind in (Exception, Http404, HttpError, ValidationError):
        api.add_exception_handler(kind, json_error)


def every_operation(run: Run) -> Run:
    """What no operation does for itself: refuse query parameters that it does not know, tell of the rate limit."""
    operation: Operation = inspect.unwrap(run).__self__
    known = _query_names(operation)

    @functools.wraps(run)
    def wrapped(request: HttpRequest, **path: Any) -> HttpResponse:
        return _with_rate(request, _refusal(request, known) or run(request, **path))

    @functools.wraps(run)
    async def awaited(request: HttpRequest, **path: Any) -> HttpResponse:
        return _with_rate(request, _refusal(request, known) or await run(request, **path))

    return awaited if inspect.iscoroutinefunction(inspect.unwrap(run)) else wrapped


def _query_names(operation: Operation) -> frozenset[str]:
    models = [model for model in operation.models if model.__ninja_param_source__ == "query"]
    return frozenset(name for model in models for name in model.__ninja_flatten_map__)


def _refusal(request: HttpRequest, known: frozenset[str]) -> HttpResponse | None:
    """Said before anybody is asked who they are: the names that a route knows are public."""
    unknown = sorted(set(request.GET) - known)
    if not unknown:
        return None
    return json_error(request, InvalidField("There is no such query parameter.", field=unknown[0][:100]))


def _with_rate(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    rate = getattr(request, "rate", None)
    if rate is not None:
        response["RateLimit-Limit"] = str(rate.limit)
        response["RateLimit-Remaining"] = str(rate.remaining)
        response["RateLimit-Reset"] = str(rate.reset_s)
    return response


# The documentation page of ninja loads its scripts from elsewhere, which our Content-Security-Policy forbids: ours is
# zcplatform.api_docs.
api = PlatformAPI(
    title="zcplatform",
    version=__version__,
    description=DESCRIPTION,
    docs_url=None,
    openapi_url=None,
    auth=Credentials(),
)
answer_errors(api)
api.add_decorator(every_operation, mode="view")
accounts.api.mount(api)
api.add_router("/monitoring", monitoring_router)
api.add_router("/tenants", tenant_monitoring_router)
alerting_api.mount(api)
tenants.api.mount(api)


class Alive(Schema):
    """One word."""

    status: str


@api.get("/health", response=Alive, auth=None, tags=["platform"], summary="This process answers")
def health(request: HttpRequest) -> dict[str, str]:
    """Nothing more is said to anybody who asks."""
    return {"status": "ok"}
