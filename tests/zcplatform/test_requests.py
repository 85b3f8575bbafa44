"""What every request passes: ids, headers, errors, health, and who the caller is."""

import json
import re
from datetime import timedelta

import pytest
import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.http import Http404, HttpResponseNotAllowed, JsonResponse
from django.test import Client
from django.urls import include, path
from ninja import NinjaAPI, Schema

from accounts.models import User
from backups import results
from monitoring import heartbeats
from monitoring.models import Heartbeat
from zcplatform import urls, views
from zcplatform.api import answer_errors
from zcplatform.lib import errors
from zcplatform.lib.client_ip import client_ip

FAULTS = {
    "value": ValueError("internals at /srv/app"),
    "gone": Http404("No Tenant matches"),
    "denied": PermissionDenied("x"),
    "busy": OperationalError("database is locked"),
    "big": RequestDataTooBig("x"),
    "plan": errors.Forbidden("Your plan has 2 channels.", type="plan_limit", limit=2),
    "slow": errors.RateLimited("Too many.", retry_after=7),
    "who": errors.Unauthenticated("No token."),
    "down": errors.DependencyDown("The engine does not answer."),
}


def fail(request, name):
    raise FAULTS[name]


def only_post(request):
    return HttpResponseNotAllowed(["POST"])


class Wanted(Schema):
    name: str
    size: int


faulty = NinjaAPI(urls_namespace="faulty", docs_url=None, openapi_url=None)
answer_errors(faulty)


@faulty.post("/schema")
def take(request, wanted: Wanted):
    return {"name": wanted.name}


@faulty.get("/fail/{name}")
def fail_in_api(request, name: str):
    raise FAULTS[name]


urlpatterns = [
    path("api/plain/fail/<name>", fail),
    path("api/plain/post", only_post),
    path("api/test-only/", faulty.urls),
    path("page/fail/<name>", fail),
    path("page/id", lambda request: JsonResponse({"id": request.request_id, "ip": request.client_ip})),
    path("", include(urls)),
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500


@pytest.fixture
def web(settings, db):
    settings.ROOT_URLCONF = __name__
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("prefix", ["/api/plain/fail/", "/api/test-only/fail/", "/page/fail/"])
@pytest.mark.parametrize(
    ("name", "status", "type"),
    [
        ("value", 500, "internal_error"),
        ("gone", 404, "not_found"),
        ("denied", 403, "forbidden"),
        ("busy", 503, "database_busy"),
        ("big", 413, "too_large"),
        ("plan", 403, "plan_limit"),
        ("slow", 429, "rate_limited"),
        ("who", 401, "unauthenticated"),
        ("down", 503, "dependency_down"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_program_gets_the_envelope_wherever_the_error_is_raised(web, settings, prefix, name, status, type, debug):
    settings.DEBUG = debug
    answer = web.get(prefix + name, headers={"accept": "application/json"})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/json")
    error = answer.json()["error"]
    assert error["type"] == type
    assert error["request_id"] == answer["X-Request-ID"]
    assert "/srv" not in answer.content.decode()


def test_an_error_says_when_to_come_back_and_how_to_sign_in(web):
    assert web.get("/api/plain/fail/slow")["Retry-After"] == "7"
    assert web.get("/api/plain/fail/who")["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("value", 500, "Something failed on our side"),
        ("gone", 404, "There is nothing at this address"),
        ("denied", 403, "Your account may not do this"),
        ("plan", 403, "Your plan has 2 channels."),
        ("down", 503, "The engine does not answer."),
        ("big", 413, "This request can"),
    ],
)
def test_a_person_gets_a_page_with_the_request_id(web, name, status, text):
    answer = web.get(f"/page/fail/{name}", headers={"accept": "text/html,*/*"})
    assert answer.status_code == status
    page = answer.content.decode()
    assert text in page
    assert answer["X-Request-ID"] in page
    assert "/srv" not in page


def test_error_pages_need_no_database(web):
    def refuse(execute, sql, params, many, context):
        raise AssertionError(sql)

    with connection.execute_wrapper(refuse):
        for name in ("value", "gone", "denied"):
            assert b"request id" in web.get(f"/page/fail/{name}").content.lower()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("address", ["/api/nothing", "/api/test-only/nothing", "/v1/nothing", "/t/acme/x", "/metrics"])
def test_an_unknown_route_answers_in_the_envelope(web, settings, address, debug):
    settings.DEBUG = debug
    answer = web.get(address)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"


def test_a_wrong_method_answers_in_the_envelope_and_says_which_is_right(web):
    answer = web.get("/api/plain/post")
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "method_not_allowed")
    assert answer["Allow"] == "POST"
    assert web.get("/api/test-only/schema").json()["error"]["type"] == "method_not_allowed"


def test_a15_a_foreign_host_is_refused(web):
    answer = web.get("/api/health", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "error" in answer.json()
    page = web.get("/login", headers={"host": "evil.example"})
    assert page.status_code == 400
    assert b"evil.example" not in page.content


def test_invalid_fields_are_named_without_their_value(web):
    answer = web.post("/api/test-only/schema", {"size": "canary-33"}, content_type="application/json")
    assert answer.status_code == 422
    assert {item["field"] for item in answer.json()["error"]["details"]["fields"]} == {"name", "size"}
    assert b"canary-33" not in answer.content


def test_an_unparsable_body_is_a_400(web):
    answer = web.post("/api/test-only/schema", "{", content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request")


def test_m1_a_body_beyond_the_limit_is_a_413(web):
    answer = web.post("/api/test-only/schema", "x" * 1_048_577, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")


def finished(web, **headers):
    """The answer to a request, and the log line about it."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = web.get("/page/id", **headers)
    [line] = [line for line in lines if line["event"] == "request_finished"]
    return answer, line


@pytest.mark.parametrize("given", ["1", "abcd1234", "A_b-" * 16])
def test_the_request_id_is_made_here_and_a_harmless_one_of_the_caller_stands_beside_it(web, given):
    answers = [finished(web, HTTP_X_REQUEST_ID=given) for _ in range(2)]
    for answer, line in answers:
        assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Request-ID"])
        assert answer["X-Request-ID"] == answer.json()["id"] == line["request_id"]
        assert line["client_request_id"] == given
    assert answers[0][0]["X-Request-ID"] != answers[1][0]["X-Request-ID"]


@pytest.mark.parametrize("given", ["", "x" * 65, "has space in it", "new\nline-forged", "<script>alert()"])
def test_j3_any_other_request_id_is_dropped(web, given):
    answer, line = finished(web, HTTP_X_REQUEST_ID=given, HTTP_X_CORRELATION_ID="theirs\nforged")
    assert answer["X-Request-ID"] == answer.json()["id"] != given
    assert "client_request_id" not in line
    assert "theirs" not in json.dumps(line)


def test_the_callers_id_ends_with_its_request(web):
    finished(web, HTTP_X_REQUEST_ID="first-caller")
    assert "client_request_id" not in finished(web)[1]


def test_each_request_is_logged_once_without_query_and_token(web):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        web.get("/page/id?token=canary-44")
    [line] = [line for line in lines if line["event"] == "request_finished"]
    assert line["request"] == "GET /page/id"
    assert len(line["request_id"]) == 32
    assert "canary-44" not in json.dumps(lines)


def test_k13_security_headers_are_on_pages_errors_and_api(web):
    for address in ("/login", "/page/fail/value", "/api/health", "/nothing"):
        answer = web.get(address)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer["Cache-Control"] == "no-store, private"
        assert "camera=()" in answer["Permissions-Policy"]
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"


def test_pages_work_under_the_policy(web):
    """No script or style stands inside a page, in the admin neither."""
    web.force_login(User.objects.create_superuser("root@example.com"))
    addresses = ["/login", "/nothing", "/admin/", "/admin/accounts/user/", "/admin/accounts/role/add/"]
    for address in addresses:
        page = web.get(address).content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)(?![^>]*application/json)", page), address
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page), address


@pytest.mark.parametrize(
    ("peer", "forwarded", "behind_proxy", "found"),
    [
        ("127.0.0.1", "1.1.1.1, 203.0.113.7", True, "203.0.113.7"),
        ("", "203.0.113.7", True, "203.0.113.7"),
        ("::1", "2001:db8::1", True, "2001:db8::1"),
        ("198.51.100.4", "203.0.113.7", True, "198.51.100.4"),
        ("127.0.0.1", "203.0.113.7", False, "127.0.0.1"),
        ("127.0.0.1", "", True, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7, evil\n", True, ""),
        ("", "", False, ""),
    ],
)
def test_j6_k1_the_callers_address_is_the_last_hop_of_our_own_proxy(peer, forwarded, behind_proxy, found):
    assert client_ip(peer, forwarded, behind_proxy=behind_proxy) == found


def test_k1_a_proxy_on_this_machine_comes_from_the_address_that_we_listen_on():
    """Whoever connects to 192.0.2.7 on the host that has it comes from 192.0.2.7."""
    assert client_ip("192.0.2.7", "203.0.113.7", behind_proxy=True, own="192.0.2.7") == "203.0.113.7"
    assert client_ip("192.0.2.8", "203.0.113.7", behind_proxy=True, own="192.0.2.7") == "192.0.2.8"
    assert client_ip("192.0.2.7", "203.0.113.7", behind_proxy=True, own="0.0.0.0") == "192.0.2.7"


def test_k2_other_headers_name_no_caller(web, settings):
    settings.BEHIND_PROXY = True
    forged = {"HTTP_X_REAL_IP": "6.6.6.6", "HTTP_FORWARDED": "for=6.6.6.6", "HTTP_CF_CONNECTING_IP": "6.6.6.6"}
    assert web.get("/page/id", **forged).json()["ip"] == "127.0.0.1"


@pytest.fixture
def fresh_look(monkeypatch):
    monkeypatch.setattr(views, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(views, "_migrated", False)


def beat(name, age):
    Heartbeat.objects.update_or_create(name=name, defaults={"beat_at": Now() - timedelta(seconds=age)})


@pytest.mark.parametrize("address", ["/health", "/healthz", "/readyz"])
def test_another_method_is_told_so(db, address):
    answer = Client(enforce_csrf_checks=True).post(address)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("address", ["/health", "/healthz", "/api/health"])
def test_health_is_one_word_and_needs_no_database(web, address, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = web.get(address)
    assert answer.status_code == 200
    assert answer.content.decode() in ("ok", '{"status": "ok"}')


def test_ready_when_both_clusters_beat(web, fresh_look):
    beat("runs", 1)
    beat("sweeps", 25)
    assert (web.get("/readyz").status_code, web.get("/readyz").content) == (200, b"ok")
    assert not Heartbeat.objects.filter(name="readyz").exists()


@pytest.mark.parametrize("stale", ["runs", "sweeps"])
def test_unready_when_a_heartbeat_is_old_or_absent(web, fresh_look, stale):
    beat("runs", 1)
    beat("sweeps", 1)
    beat(stale, 31)
    assert (web.get("/readyz").status_code, web.get("/readyz").content) == (503, b"unready")
    Heartbeat.objects.filter(name=stale).delete()
    assert web.get("/readyz").status_code == 503


def test_unready_while_a_sweep_hangs_although_both_clusters_beat(web, fresh_look):
    beat("runs", 1)
    beat("sweeps", 1)
    heartbeats.note_late(["tenants.tasks.reconcile_sweep"])
    assert (web.get("/readyz").status_code, web.get("/readyz").content) == (503, b"unready")
    Heartbeat.objects.filter(name__startswith=heartbeats.LATE).update(beat_at=Now() - timedelta(seconds=31))
    assert web.get("/readyz").content == b"ok"


def test_stale_when_the_last_backup_failed(web, fresh_look):
    beat("runs", 1)
    beat("sweeps", 1)
    results.note(results.BACKUP, ok=False, detail="no room")
    assert (web.get("/readyz").status_code, web.get("/readyz").content) == (200, b"stale")
    results.note(results.BACKUP, ok=True, detail="made")
    assert web.get("/readyz").content == b"ok"


def test_unready_when_the_database_can_not_be_written(web, fresh_look):
    beat("runs", 1)
    beat("sweeps", 1)

    def read_only(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            raise OperationalError("attempt to write a readonly database")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(read_only):
        assert web.get("/readyz").status_code == 503
    assert web.get("/readyz").status_code == 200


def test_unready_with_an_unapplied_migration(web, fresh_look):
    beat("runs", 1)
    beat("sweeps", 1)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'monitoring'")
    assert web.get("/readyz").content == b"unready"


def test_ready_is_looked_up_once_a_second_at_most(web, monkeypatch):
    monkeypatch.setattr(views, "_looked", (0.0, ""))
    looks = []
    monkeypatch.setattr(views, "_look", lambda: looks.append(1) or "")
    for _ in range(5):
        assert web.get("/readyz").status_code == 200
    assert len(looks) == 1


def test_the_front_door_leads_to_where_one_gets_in(web):
    assert web.get("/")["Location"] == "/login?next=%2F"
    web.force_login(User.objects.create_user("u@example.com"))
    assert b"Your tenants" in web.get("/").content
    web.force_login(User.objects.create_superuser("root@example.com"))
    assert b"Fleet" in web.get("/").content
