import errno

import pytest
from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import OperationalError
from django.http import Http404
from ninja.errors import HttpError
from ninja.errors import ValidationError as SchemaError

from zcplatform.lib import errors, redact
from zcplatform.lib.envelope import envelope_for_status, to_envelope


@pytest.mark.parametrize(
    ("error", "status", "type"),
    [
        (errors.RequestError("no"), 400, "bad_request"),
        (errors.Forbidden("full", type="plan_limit"), 403, "plan_limit"),
        (errors.NotFound(), 404, "not_found"),
        (errors.DependencyTimeout("slow"), 504, "dependency_timeout"),
        (errors.VaultError("sealed"), 500, "vault_error"),
        (PermissionDenied(), 403, "forbidden"),
        (Http404("No Tenant matches the given query."), 404, "not_found"),
        (SuspiciousOperation("x"), 400, "bad_request"),
        (RequestDataTooBig("x"), 413, "too_large"),
        (DisallowedHost("evil.example"), 400, "unknown_host"),
        (OperationalError("database is locked"), 503, "database_busy"),
        (OperationalError("deadlock detected"), 503, "database_busy"),
        (OperationalError("database or disk is full"), 503, "storage_full"),
        (OperationalError("no such table: users"), 503, "database_unavailable"),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/secret/path"), 503, "storage_full"),
        (OSError(errno.EACCES, "Permission denied", "/srv/secret/path"), 500, "internal_error"),
        (HttpError(400, "Cannot parse request body"), 400, "bad_request"),
        (HttpError(401, "Unauthorized"), 401, "unauthenticated"),
        (ValueError("internals"), 500, "internal_error"),
        (KeyboardInterrupt(), 500, "internal_error"),
    ],
)
def test_every_error_has_a_status_and_a_stable_type(error, status, type):
    answered, body = to_envelope(error, "req-1")
    assert (answered, body["error"]["type"], body["error"]["request_id"]) == (status, type, "req-1")
    assert set(body["error"]) == {"type", "message", "details", "request_id"}
    assert "secret/path" not in str(body)


def test_an_unknown_exception_tells_nothing_of_itself():
    _, body = to_envelope(RuntimeError("SELECT token FROM vault at /srv/app.py"), "r")
    assert "SELECT" not in str(body)
    assert "/srv" not in str(body)


def test_absent_and_foreign_answer_alike():
    assert to_envelope(Http404("No Tenant"), "r") == to_envelope(errors.NotFound(), "r")


def test_details_and_message_are_scrubbed():
    redact.remember("canary-value-91823")
    error = errors.Conflict("got canary-value-91823", bot_token="abc", note="canary-value-91823", limit=3)
    _, body = to_envelope(error, "r")
    assert "canary-value" not in str(body)
    assert body["error"]["details"] == {"bot_token": "***", "note": "***", "limit": 3}


def test_schema_errors_name_the_field_and_never_repeat_the_value():
    error = SchemaError(
        [
            {"type": "missing", "loc": ("body", "payload", "name"), "msg": "Field required", "input": "canary"},
            {"type": "int_parsing", "loc": ("query", "limit"), "msg": "Input should be an integer", "input": "canary"},
            {"type": "extra", "loc": ("body", "payload", "a", "token"), "msg": "Extra inputs are not permitted"},
        ]
    )
    status, body = to_envelope(error, "r")
    assert status == 422
    assert body["error"]["details"]["fields"] == [
        {"field": "name", "message": "Field required"},
        {"field": "limit", "message": "Input should be an integer"},
        {"field": "a.token", "message": "Extra inputs are not permitted"},
    ]
    assert "canary" not in str(body)


def test_form_errors_name_the_field():
    _, body = to_envelope(ValidationError({"email": ["Enter one."]}), "r")
    assert body["error"]["details"]["fields"] == [{"field": "email", "message": "Enter one."}]


@pytest.mark.parametrize(("status", "type"), [(405, "method_not_allowed"), (418, "im_a_teapot"), (499, "error")])
def test_a_bare_status_still_makes_an_envelope(status, type):
    assert envelope_for_status(status, "r")["error"]["type"] == type
