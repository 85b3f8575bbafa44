"""The API's foundation: paging, unknown parameters, idempotency, rate limits, the reference."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, IdempotencyKey, User
from accounts.rates import BLOCK, permits
from audit.models import AuditEntry
from tests.accounts.conftest import Api, access_token, key_of
from tests.commands import manage
from zcplatform import api_docs
from zcplatform.api import api as platform_api
from zcplatform.lib.actors import OPERATOR

KEYS = "users/me/api-keys"
PUBLIC_WRITES = {f"POST /api/auth/{name}" for name in ("otp/request", "otp/verify", "totp/verify", "refresh")}


@pytest.fixture(autouse=True)
def _no_permits_left_over():
    permits.clear()


@pytest.fixture
def dana(db):
    return User.objects.create_user("dana@example.com")


@pytest.fixture
def api(dana):
    return Api(access_token(dana))


def some_keys(user, number):
    return [api_keys.create(user, actor=OPERATOR, name=f"k{n}", scopes=["read"])[0] for n in range(number)]


def pages(api, **query):
    found, cursor = [], None
    while True:
        words = {**query, **({"cursor": cursor} if cursor else {})}
        answer = api.client.get(f"/api/{KEYS}", words, headers={"authorization": f"Bearer {api.bearer}"})
        assert answer.status_code == 200, answer.content
        found.append([item["name"] for item in answer.json()["items"]])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


def test_a_list_is_read_page_by_page_without_gap_or_repetition(api, dana):
    some_keys(dana, 7)
    names = [f"k{n}" for n in range(7)]
    assert pages(api, limit=3) == [names[:3:-1], names[3:0:-1], ["k0"]]
    assert pages(api, limit=3, order="created_at") == [names[:3], names[3:6], names[6:]]
    assert pages(api, limit=7) == [names[::-1]]


def test_rows_of_the_same_moment_are_each_shown_once(api, dana):
    ApiKey.objects.filter(pk__in=[key.pk for key in some_keys(dana, 6)]).update(created_at="2026-01-01T00:00:00Z")
    found = pages(api, limit=2)
    assert sorted(name for page in found for name in page) == [f"k{n}" for n in range(6)]


def test_m5_a_page_holds_200_at_most(api):
    from zcplatform.lib.paging import paginate
    from zcplatform.lib.schemas import PageQuery

    User.objects.bulk_create([User(email=f"u{n}@example.com") for n in range(210)])
    found = paginate(User.objects.all(), PageQuery(limit=10**9), orders={"email": "email"}, default="email")
    assert len(found["items"]) == 200
    assert api.get(f"{KEYS}?limit=1000000000").status_code == 200
    for limit in ("0", "-1", "x", ""):
        assert api.get(f"{KEYS}?limit={limit}").status_code == 422


@pytest.mark.parametrize(
    "query",
    ["order=key_hash", "order=user__email", "order=--created_at", "order=?", "order=pk", "cursor=x", "cursor=W10",
     "cursor=%00", "cursor=WyItY3JlYXRlZF9hdCIsIDEsIDJd", "filter[user]=1", "order_by=name", "_connector=OR", "user=1"],
)  # fmt: skip
def test_c14_only_what_is_listed_sorts_and_filters(api, dana, query):
    some_keys(dana, 1)
    answer = api.get(f"{KEYS}?{query}")
    assert answer.status_code == 422, answer.content
    assert answer.json()["error"]["type"] in ("invalid_order", "invalid_cursor", "invalid_field")


def test_a_cursor_belongs_to_its_order(api, dana):
    some_keys(dana, 3)
    cursor = api.get(f"{KEYS}?limit=1").json()["next_cursor"]
    answer = api.get(f"{KEYS}?limit=1&order=created_at&cursor={cursor}")
    assert answer.json()["error"]["type"] == "invalid_cursor"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scopes": ["read"], "user_id": 1},
        {"name": "x", "scopes": ["read"], "stamp": 99},
        {"name": "x", "scopes": ["owner"]},
        {"name": "x", "scopes": []},
        {"name": "x" * 81, "scopes": ["read"]},
        {"name": "a\nb", "scopes": ["read"]},
        {"name": "a\u0000", "scopes": ["read"]},
        {"name": "", "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "expires_in_days": 0},
        {"name": "x", "scopes": ["read"], "expires_in_days": 367},
        {"name": 5, "scopes": ["read"]},
        {},
        [],
    ],
)
def test_c5_unknown_and_unbounded_fields_are_refused(api, body):
    answer = api.post(KEYS, body)
    assert answer.status_code == 422, answer.content
    assert not ApiKey.objects.exists()


def test_what_is_no_json_is_no_request(api):
    answer = api.client.post(
        f"/api/{KEYS}", "{", content_type="application/json", headers={"authorization": f"Bearer {api.bearer}"}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request")


def test_m1_a_large_body_is_refused(api):
    answer = api.post(KEYS, {"name": "x" * 2_000_000, "scopes": ["read"]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")


def test_a_write_with_a_key_happens_once(api):
    body = {"name": "x", "scopes": ["read"]}
    first = api.post(KEYS, body, **{"idempotency-key": "k-1"})
    again = api.post(KEYS, body, **{"idempotency-key": "k-1"})
    assert (first.status_code, again.status_code, ApiKey.objects.count()) == (201, 201, 1)
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert again.json()["id"] == first.json()["id"]
    assert first.json()["key"].startswith("zck_")
    assert again.json()["key"] == "***"  # shown once means once
    assert first.json()["key"] not in json.dumps(IdempotencyKey.objects.get().response)
    other = api.post(KEYS, {**body, "name": "y"}, **{"idempotency-key": "k-1"})
    assert other.json()["error"]["type"] == "idempotency_mismatch"
    assert api.post(KEYS, body, **{"idempotency-key": "ü"}).json()["error"]["type"] == "invalid_idempotency_key"


def test_an_empty_answer_is_remembered_too(api, dana):
    key = some_keys(dana, 1)[0]
    for _ in range(2):
        assert api.delete(f"{KEYS}/{key.public_id}", **{"idempotency-key": "k-2"}).status_code == 204
    assert api.delete(f"{KEYS}/{key.public_id}").status_code == 404


def test_a_refusal_is_audited_and_not_remembered(dana):
    reader = Api(key_of(dana, "read"))
    for number in (1, 2):
        answer = reader.post(KEYS, {"name": "x", "scopes": ["read"]}, **{"idempotency-key": "k-3"})
        assert answer.status_code == 403
        assert AuditEntry.objects.filter(action="access.denied").count() == number
    assert not IdempotencyKey.objects.exists()


def test_a_fault_leaves_nothing_and_frees_the_key(api, monkeypatch):
    real = api_keys.create

    def broken(*args, **options):
        real(*args, **options)
        raise RuntimeError("after the row was written")

    monkeypatch.setattr(api_keys, "create", broken)
    body, key = {"name": "x", "scopes": ["read"]}, {"idempotency-key": "k-4"}
    assert api.post(KEYS, body, **key).status_code == 500
    assert not ApiKey.objects.exists()
    monkeypatch.setattr(api_keys, "create", real)
    assert api.post(KEYS, body, **key).status_code == 201


def test_one_users_idempotency_keys_are_nobody_elses(api, db):
    other = Api(access_token(User.objects.create_user("other@example.com")))
    for caller in (api, other):
        answer = caller.post(KEYS, {"name": "x", "scopes": ["read"]}, **{"idempotency-key": "same"})
        assert answer.status_code == 201
        assert "Idempotency-Replayed" not in answer
    assert ApiKey.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_with_one_key_make_one():
    user = User.objects.create_user("dana@example.com")
    bearer, barrier = access_token(user), threading.Barrier(20)

    def send(_number):
        barrier.wait()
        try:
            return Api(bearer).post(KEYS, {"name": "x", "scopes": ["read"]}, **{"idempotency-key": "one"}).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(send, range(20)))
    assert ApiKey.objects.count() == 1
    assert set(statuses) <= {201, 409}


def test_the_rate_limit_is_told_and_holds(api, settings):
    settings.API_REQUESTS_PER_MINUTE = 5
    answers = [api.get("users/me") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [answer.get("RateLimit-Remaining") for answer in answers[:5]] == ["4", "3", "2", "1", "0"]
    assert answers[0]["RateLimit-Limit"] == "5"
    assert 0 < int(answers[0]["RateLimit-Reset"]) <= 60
    assert 0 < int(answers[5]["Retry-After"]) <= 60
    assert answers[5].json()["error"]["type"] == "rate_limited"


def test_k4_the_limit_is_shared_by_processes_and_survives_a_restart(api, dana, settings):
    settings.API_REQUESTS_PER_MINUTE = 5
    statuses = []
    for _ in range(7):
        permits.clear()  # as a process that has just started, or another one
        statuses.append(api.get("users/me").status_code)
    assert statuses == [200] * 5 + [429] * 2
    other = Api(access_token(User.objects.create_user("other@example.com")))
    assert other.get("users/me").status_code == 200


def test_most_reads_take_no_write_lock(api):
    api.get("users/me")
    writes = 0
    for _ in range(2 * BLOCK):
        with _Counted() as counted:
            assert api.get("users/me").status_code == 200
        writes += counted.writes
    assert writes <= 2


class _Counted:
    """Counts the requests that wrote anything."""

    def __enter__(self):
        from django.test.utils import CaptureQueriesContext

        self.context = CaptureQueriesContext(connection)
        self.context.__enter__()
        return self

    def __exit__(self, *error):
        self.context.__exit__(*error)
        sql = [query["sql"] for query in self.context.captured_queries]
        self.writes = int(any(line.startswith(("INSERT", "UPDATE", "DELETE")) for line in sql))


def operations():
    for path, methods in api_docs.document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_is_described_with_its_errors():
    for name, operation in operations():
        assert operation.get("description"), name
        assert operation.get("summary"), name
        assert operation.get("tags"), name
        assert any(int(status) >= 400 for status in operation["responses"]), name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (name, status)


def test_every_body_has_an_example_that_its_schema_takes():
    for name, operation in operations():
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            assert content.get("example"), name


def test_k8_no_write_is_open_to_everybody_but_those_that_let_people_in():
    found = {name for name, operation in operations() if "security" not in operation and not name.startswith("GET")}
    assert found == PUBLIC_WRITES


def test_every_operation_has_an_id_of_its_own():
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids))


def test_the_reference_is_for_those_who_are_logged_in(client, dana, api):
    assert client.get("/api/docs")["Location"] == "/login?next=%2Fapi%2Fdocs"
    assert client.get("/api/openapi.json").status_code == 401
    client.force_login(dana)
    page = client.get("/api/docs")
    assert page.status_code == 200
    for name, operation in operations():
        assert name.split()[1] in page.content.decode()
        assert f'id="{operation["operationId"]}"' in page.content.decode()
    assert "<script>" not in page.content.decode()
    assert client.get("/api/openapi.json").json()["openapi"] == "3.1.0"
    assert api.get("openapi.json").status_code == 200


def test_the_document_is_printed(tmp_path):
    printed = manage("export_openapi_schema").json
    assert printed == api_docs.document()
    assert manage("export_openapi_schema", "--output", str(tmp_path / "api.json")).code == 0
    assert json.loads((tmp_path / "api.json").read_text()) == printed
    assert printed["info"]["version"] == platform_api.version


def test_words_for_types():
    assert api_docs.type_of({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}) == (
        "string (uuid) or null"
    )
    assert api_docs.type_of({"type": "array", "items": {"$ref": "#/components/schemas/User"}}) == "list of User"
    assert api_docs.type_of({"enum": ["a", "b"]}) == "one of a, b"


def test_an_address_that_is_none_answers_in_the_envelope(api):
    answer = api.get("nowhere")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")
    assert Client().post("/api/health").json()["error"]["type"] == "method_not_allowed"
