"""``POST /pair`` at a tenant's address, through the real ASGI application under uvicorn."""

from __future__ import annotations

import httpx
import pytest

from accounts.rates import limiter
from tenants import door_pair, pairing, tokens
from tests.factories import TenantFactory
from tests.serving import serving
from zcplatform.asgi import application
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Unauthenticated

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(db, settings):
    settings.DOMAIN, settings.PUBLIC_HOST, settings.ROUTER = "localhost", "localhost", "caddy"
    return TenantFactory(slug="acme")


@pytest.fixture
def post(acme):
    with serving(application) as port:

        def send(body, *, host="acme.localhost", path="/pair", method="POST", **headers):
            headers = {"Host": host, **headers}
            return httpx.request(method, f"http://127.0.0.1:{port}{path}", json=body, headers=headers, timeout=20)

        yield send


def code(tenant):
    tenant.refresh_from_db()
    return pairing.current(actor=OPERATOR, tenant=tenant).code.reveal()


def test_a_device_gets_a_token_for_a_code(post, acme):
    answer = post({"code": code(acme), "name": "phone"})
    assert (answer.status_code, answer.json()["name"], answer.headers["cache-control"]) == (200, "phone", "no-store")
    assert tokens.lookup(answer.json()["access_token"]).tenant == acme


def test_a_used_or_wrong_code_is_refused_in_the_envelope(post, acme):
    used = code(acme)
    post({"code": used})
    for wrong in (used, "AAAA-AAAA"):
        answer = post({"code": wrong})
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_pairing_code")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ([], 422),
        ({"code": 5}, 422),
        ({"code": ""}, 422),
        ({"code": "A" * 21}, 422),
        ({"code": "AAAA-AAAA", "tenant": "x"}, 422),
        ({"code": "AAAA-AAAA", "name": "a\nb"}, 422),
        ({"code": "AAAA-AAAA", "name": "x" * 81}, 422),
    ],
)
def test_what_is_no_code_is_refused(post, body, status):
    assert post(body).status_code == status


def test_other_methods_hosts_and_tenants(post, acme):
    assert post({"code": code(acme)}, method="GET").status_code == 405
    nobody = post({"code": code(acme)}, host="nobody.localhost")
    assert (nobody.status_code, nobody.json()["error"]["type"]) == (404, "not_found")
    other = TenantFactory(slug="other")
    assert post({"code": code(acme)}, host="other.localhost").status_code == 401
    assert other.access_tokens.count() == 0


def test_guessing_is_bounded_per_caller_and_shuts_nobody_else_out(post, acme, monkeypatch):
    limiter.storage.reset()
    answers = [post({"code": "AAAA-AAAA"}).status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    assert post({"code": code(acme)}).status_code == 429
    for number in range(150):
        with pytest.raises(Unauthenticated):
            door_pair.pair("acme", {"code": "AAAA-AAAA"}, f"198.51.100.{number}", "")
    assert door_pair.pair("acme", {"code": code(acme)}, "192.0.2.1", "")["access_token"]


def test_with_the_router_direct_it_is_below_the_tenants_path(post, acme, settings):
    settings.ROUTER = "direct"
    assert post({"code": code(acme)}, host="localhost", path="/t/acme/pair").status_code == 200
