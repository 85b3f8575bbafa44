"""The whole specification against the served application, as each role: no 5xx, no answer outside the specification.

What is sent is generated from the OpenAPI document, from a fixed seed; ``ZC_SLOW=1`` sends more of it.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tenants.api import streams
from tests.api.conftest import bearer_of
from tests.serving import serving
from zcplatform import api_docs
from zcplatform.asgi import application
from zcplatform.lib import http

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = 8 if os.environ.get("ZC_SLOW") == "1" else 2
ROLES = ("anonymous", "stranger", "viewer", "contributor", "manager", "owner", "super_admin", "read_key")
QUICK = "owner"  # the others run with ZC_SLOW=1
# These end the caller's own credential. They come last, each with a fresh one.
ENDING = ("POST /api/auth/logout", "DELETE /api/users/me/sessions", "DELETE /api/users/me/sessions/{session_id}")
# What is generated can't follow for ever: of a log only its end is read, and the run whose events are read has ended.
# The specification says of a stream that it is text; what its events hold is read in tests.api.test_streams.
STREAMS = ("GET /api/runs/{run_id}/events",)


@pytest.mark.parametrize("role", [r if r == QUICK else pytest.param(r, marks=pytest.mark.slow) for r in ROLES])
def test_every_operation_keeps_to_the_specification(role, people, acme, ids, monkeypatch):
    monkeypatch.setattr(http, "request", lambda *a, **k: http.Reply(401, {}, b"{}"))
    monkeypatch.setattr(streams, "slots", streams.Slots())
    # Late: it takes a second to load, and every worker collects this file.
    import schemathesis
    from schemathesis.core.failures import FailureGroup

    caller, asked, problems, headers = getattr(people, role), Counter(), [], {}
    ids = {**caller.own, **ids}
    with serving(application) as port:
        schema = schemathesis.openapi.from_dict(api_docs.document())
        operations = sorted((result.ok() for result in schema.get_all_operations()), key=lambda o: o.label in ENDING)
        for operation in operations:
            fresh = operation.label in ENDING and role in people.users
            bearer = bearer_of(people.users[role]) if fresh else caller.bearer
            headers.update({"Authorization": f"Bearer {bearer}"} if bearer else {})

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
                case.path_parameters = {**(case.path_parameters or {}), **_real(case.path_parameters, ids)}
                if case.query and "follow" in case.query:
                    case.query["follow"] = "false"
                response = case.call(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)
                asked[case.operation.label] += 1
                try:
                    case.validate_response(response, checks=_checks(case.operation.label))
                except FailureGroup as error:
                    problems.append(f"{case.operation.label}: {str(error)[:600]}")

            send()
    documented = {f"{m.upper()} {path}" for path, found in api_docs.document()["paths"].items() for m in found}
    assert {label for label in documented if not asked[label]} == set()
    assert asked.total() >= EXAMPLES * (len(documented) - 1)  # what has no input at all is asked once
    assert problems == [], "\n\n".join(problems[:10])


def _checks(label):
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    always = (
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
    )
    return always if label in STREAMS else (*always, checks.response_schema_conformance)


def _real(parameters, ids):
    """Ids that exist, so that what lies behind them is reached as well."""
    return {name: ids[name] for name in parameters or {} if name in ids}
