"""The JSON API: mounts each app's router and answers every error in the one envelope."""

from __future__ import annotations

from django.http import Http404, HttpRequest
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError

from zcplatform import __version__
from zcplatform.middleware import json_error


def answer_errors(api: NinjaAPI) -> None:
    """Every exception in the one envelope. ninja has handlers of its own for the last three, which are replaced."""
    for kind in (Exception, Http404, HttpError, ValidationError):
        api.add_exception_handler(kind, json_error)


# The documentation page loads its scripts from elsewhere, which our Content-Security-Policy forbids: off.
api = NinjaAPI(title="zcplatform", version=__version__, docs_url=None, openapi_url=None)
answer_errors(api)


class Health(Schema):
    """One word."""

    status: str


@api.get("/health", response=Health, tags=["platform"], summary="This process answers")
def health(request: HttpRequest) -> dict[str, str]:
    """Nothing more is said to anybody who asks."""
    return {"status": "ok"}
