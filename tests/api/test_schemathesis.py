"""The whole specification against the served application, as each role: no 5xx, no answer outside the specification.

What is sent is generated from the OpenAPI document, from a fixed seed; ``ZC_SLOW=1`` sends more of it.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.conftest import ids_of
from tests.serving import serving
from zcplatform import api_docs
from zcplatform.asgi import application
from zcplatform.lib import http

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = 15 if os.environ.get("ZC_SLOW") == "1" else 2
ROLES = ("anonymous", "stranger", "viewer", "contributor", "manager", "owner", "super_admin", "read_key")
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
# What never ends, or would end the caller's own credential in the middle.
LEFT_OUT = ("/events", "/logout", "/users/me/sessions")


@pytest.mark.parametrize("role", ROLES)
def test_every_operation_keeps_to_the_specification(role, people, acme, monkeypatch):
    monkeypatch.setattr(http, "request", lambda *a, **k: http.Reply(401, {}, b"{}"))
    ids, bearer = ids_of(acme), getattr(people, role).bearer
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    problems, asked = [], 0
    with serving(application) as port:
        schema = schemathesis.openapi.from_dict(api_docs.document())
        for result in schema.get_all_operations():
            operation = result.ok()
            if any(word in operation.path for word in LEFT_OUT):
                continue

            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def send(case):
                nonlocal asked
                case.path_parameters = {**(case.path_parameters or {}), **_real(case.path_parameters, ids)}
                if case.query and "follow" in case.query:
                    case.query["follow"] = "false"
                asked += 1
                response = case.call(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)
                try:
                    case.validate_response(response, checks=CHECKS)
                except FailureGroup as error:
                    problems.append(f"{case.operation.label}: {str(error)[:600]}")

            send()
    assert asked > 50
    assert problems == [], "\n\n".join(problems[:10])


def _real(parameters, ids):
    """Ids that exist, so that what lies behind them is reached as well."""
    return {name: ids[name] for name in parameters or {} if name in ids}
