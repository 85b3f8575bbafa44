"""Who calls: group B of the threats, and K8."""

import json
from datetime import timedelta

import jwt
import pytest
from django.test import Client, RequestFactory

from accounts import api_keys, logins, services, tokens
from accounts.auth import still_valid
from accounts.models import ApiKey, Login, User
from accounts.permissions import SCOPES
from audit.models import AuditEntry
from tests.accounts.conftest import Api, access_token, key_of
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.redact import scrub

ME = "users/me"


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def refused(answer, status, kind):
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.content
    return True


def forged(user, key=None, header=None, algorithm="HS256", drop=None, **changes):
    """A token such as ours, but for what the test names."""
    real = jwt.decode(access_token(user), options={"verify_signature": False})
    claims = {name: value for name, value in (real | changes).items() if name != drop}
    return jwt.encode(claims, tokens._key() if key is None else key, algorithm=algorithm, headers=header)


@pytest.mark.parametrize("bearer", [access_token, key_of], ids=["token", "key"])
def test_a_bearer_speaks_for_its_user(dana, bearer):
    answer = Api(bearer(dana)).get(ME)
    assert answer.status_code == 200, answer.content
    assert answer.json()["email"] == "dana@example.com"
    assert set(answer.json()) == {
        *("id", "email", "name", "is_active", "is_superuser", "second_factor_at", "last_login", "created_at")
    }


def test_without_a_credential_nobody_is_let_in(db, client):
    answer = client.get("/api/users/me")
    assert refused(answer, 401, "unauthenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    assert refused(client.get("/api/users/me", headers={"authorization": "Basic ZGFuYTp4"}), 401, "invalid_token")


def test_b1_the_header_of_a_token_decides_nothing(dana, client):
    public = "-----BEGIN PUBLIC KEY-----"
    for bearer in (
        forged(dana, key="", algorithm="none"),
        forged(dana, key="x" * 64),
        forged(dana, algorithm="HS512"),
        forged(dana, header={"crit": ["x"], "x": 1}),
        forged(dana, key=public + "x" * 64, header={"kid": "../../dev/null"}),
        "a.b.c",
        "....",
    ):
        assert refused(Api(bearer).get(ME), 401, "invalid_token")
    assert Api(forged(dana, header={"kid": "../../x"})).get(ME).status_code == 200  # the kid names nothing here


@pytest.mark.parametrize("purpose", ["second-factor", "refresh", "download", "exec", "tenant", ""])
def test_b2_a_token_serves_its_own_purpose_only(dana, purpose):
    assert refused(Api(forged(dana, purpose=purpose)).get(ME), 401, "invalid_token")


@pytest.mark.parametrize("change", [{"aud": "elsewhere"}, {"iss": "https://elsewhere.example"}, {"stamp": 7}])
def test_b2_audience_issuer_and_stamp_must_be_ours(dana, change):
    assert refused(Api(forged(dana, **change)).get(ME), 401, "invalid_token")


@pytest.mark.parametrize("name", tokens._REQUIRED)
def test_b2_no_claim_may_be_missing(dana, name):
    assert refused(Api(forged(dana, drop=name)).get(ME), 401, "invalid_token")


def test_b3_a_token_counts_within_its_time_and_a_leeway_of_30_seconds(dana):
    now = int(clock.now().timestamp())
    assert tokens.LEEWAY_S <= 30
    for claim, seconds, status in (
        ("exp", -60, 401),
        ("exp", -5, 200),
        ("nbf", 60, 401),
        ("nbf", 5, 200),
        ("iat", 60, 401),
    ):
        assert Api(forged(dana, **{claim: now + seconds})).get(ME).status_code == status, (claim, seconds)


def test_b4_whatever_ends_a_login_ends_its_token_with_the_next_request(dana, root):
    def api():
        return Api(access_token(User.objects.get(pk=dana.pk)))

    for end in (
        lambda: logins.revoke(Login.objects.filter(user=dana).latest("pk"), actor=OPERATOR),
        lambda: services.update_user(dana, actor=OPERATOR, is_superuser=True),
        lambda: services.update_user(dana, actor=OPERATOR, is_superuser=False),
        lambda: services.update_user(dana, actor=OPERATOR, is_active=False),
    ):
        caller = api()
        assert caller.get(ME).status_code == 200
        end()
        assert refused(caller.get(ME), 401, "invalid_token")
    services.update_user(dana, actor=OPERATOR, is_active=True)
    assert refused(caller.get(ME), 401, "invalid_token")


def test_b4_so_do_sessions_and_keys(dana, root):
    key, browser = Api(key_of(dana)), Client()
    browser.force_login(dana)
    assert key.get(ME).status_code == browser.get("/api/users/me").status_code == 200
    services.update_user(dana, actor=OPERATOR, is_superuser=True)
    assert refused(key.get(ME), 401, "invalid_token")
    assert refused(browser.get("/api/users/me"), 401, "unauthenticated")


def opened(caller):
    """A request that stays open, as an event stream's does."""
    from accounts.auth import Credentials

    request = RequestFactory().get("/", headers={"authorization": f"Bearer {caller}"})
    request.user = None
    Credentials()(request)
    return request


@pytest.mark.parametrize("bearer", [access_token, key_of], ids=["token", "key"])
def test_b4_an_open_stream_hears_of_it(dana, root, bearer):
    def end_it():
        Login.objects.update(revoked_at=clock.now())
        ApiKey.objects.update(revoked_at=clock.now())

    for end in (
        end_it,
        lambda: services.update_user(dana, actor=OPERATOR, is_superuser=True),
        lambda: User.objects.filter(pk=dana.pk).update(is_active=False),
    ):
        dana.refresh_from_db()
        request = opened(bearer(dana))
        assert still_valid(request)
        end()
        assert not still_valid(request)


def test_b5_a_rise_to_super_admin_asks_for_a_new_login(dana, root, client):
    client.force_login(dana)
    before = client.cookies["zc_session"].value
    services.update_user(dana, actor=OPERATOR, is_superuser=True)
    assert client.get("/admin/").status_code == 302
    client.force_login(User.objects.get(pk=dana.pk))
    assert client.cookies["zc_session"].value != before


def test_b6_a_token_in_the_address_is_no_credential(dana, client):
    for name in ("access_token", "token", "api_key", "authorization"):
        answer = client.get(f"/api/users/me?{name}={key_of(dana)}")
        assert answer.status_code in (401, 422)
        assert "zck_" not in answer.content.decode()


def test_b7_what_the_database_holds_lets_nobody_in(dana):
    value = key_of(dana)
    row = ApiKey.objects.get()
    assert value not in str(row.__dict__)
    for bearer in (row.key_hash, f"zck_{row.key_hash}", row.prefix, str(row.public_id)):
        assert refused(Api(bearer).get(ME), 401, "invalid_token")
    assert value not in scrub(f"made {value}")
    assert not AuditEntry.objects.filter(detail_json__contains=value).exists()


def test_b9_two_authorization_headers_are_refused(dana, root):
    # Two headers reach Django as one, joined by a comma.
    both = Api(f"{access_token(dana)},Bearer {access_token(root)}")
    assert refused(both.get(ME), 400, "ambiguous_credentials")


def test_b9_a_bearer_beside_somebody_elses_cookie_is_refused(dana, root):
    api = Api(access_token(dana))
    api.client.force_login(root)
    assert refused(api.get(ME), 400, "ambiguous_credentials")
    api.client.force_login(dana)
    assert api.get(ME).status_code == 200


def test_b9_a_bad_bearer_does_not_fall_back_to_the_cookie(dana):
    api = Api("nonsense")
    api.client.force_login(dana)
    assert refused(api.get(ME), 401, "invalid_token")


def test_b11_no_part_of_a_key_finds_it(dana):
    value = key_of(dana)
    for bearer in (value[:-1], value + "x", value[:40], value.lower() + ""):
        if bearer != value:
            assert refused(Api(bearer).get(ME), 401, "invalid_token")


def test_b12_a_new_account_with_the_same_address_inherits_nothing(dana):
    token, key = access_token(dana), key_of(dana)
    dana.delete()
    User.objects.create_user("dana@example.com")
    for bearer in (token, key):
        assert refused(Api(bearer).get(ME), 401, "invalid_token")


def test_k8_a_session_writes_only_with_its_csrf_token(dana):
    client = Client(enforce_csrf_checks=True)
    client.force_login(dana)
    body = {"data": {"name": "x", "scopes": ["read"]}, "content_type": "application/json"}
    assert refused(client.post("/api/users/me/api-keys", **body), 403, "csrf_failed")
    assert refused(client.delete("/api/users/me/sessions"), 403, "csrf_failed")
    assert client.get("/api/users/me").status_code == 200
    client.get("/login")
    secret = "a" * 32
    client.cookies["zc_csrf"] = secret
    assert refused(client.post("/api/users/me/api-keys", headers={"x-csrftoken": "b" * 32}, **body), 403, "csrf_failed")
    assert client.post("/api/users/me/api-keys", headers={"x-csrftoken": secret}, **body).status_code == 201


def test_k8_a_bearer_needs_no_csrf_token(dana):
    api = Api(key_of(dana))
    api.client = Client(enforce_csrf_checks=True)
    assert api.post("users/me/api-keys", {"name": "x", "scopes": ["read"]}).status_code == 201


def test_a_session_ends_when_it_is_idle_and_when_it_is_old(dana, settings):
    settings.SESSION_IDLE_MINUTES = 30
    client = Client()
    client.force_login(dana)
    with later(minutes=29):
        assert client.get("/api/users/me").status_code == 200
    with later(minutes=58):
        assert client.get("/api/users/me").status_code == 200
    with later(minutes=90):
        assert client.get("/api/users/me").status_code == 401
    client.force_login(dana)
    for minutes in range(20, 12 * 60, 20):
        with later(minutes=minutes):
            assert client.get("/api/users/me").status_code == 200
    with later(hours=12, minutes=1):
        assert client.get("/api/users/me").status_code == 401


@pytest.mark.parametrize("address", ["/api/users/me", "/account"])
def test_what_a_page_asks_by_itself_keeps_no_session_alive(dana, settings, address):
    settings.SESSION_IDLE_MINUTES = 30
    client = Client()
    client.force_login(dana)
    for minutes in range(2, 30, 2):
        with later(minutes=minutes):
            assert client.get(address, headers={"x-poll": "1"}).status_code == 200
    with later(minutes=32):
        assert client.get(address, headers={"x-poll": "1"}).status_code in (302, 401)


def test_a_write_is_a_use_whatever_it_says_of_itself(dana, settings):
    settings.SESSION_IDLE_MINUTES = 30
    client = Client()
    client.force_login(dana)
    with later(minutes=29):
        client.post("/api/users/me/api-keys", {"name": "x"}, headers={"x-poll": "1"})
    with later(minutes=45):
        assert client.get("/api/users/me").status_code == 200


@pytest.mark.parametrize("idle_minutes", [1, 2, 60])
def test_nobody_is_idle_who_asks_again_in_time(dana, settings, idle_minutes):
    settings.SESSION_IDLE_MINUTES = idle_minutes
    client = Client()
    client.force_login(dana)
    at = 0
    for seconds in (50, 58, 5, 59, 59, 3, 58, 55):
        at += seconds
        with later(seconds=at):
            assert client.get("/api/users/me").status_code == 200, at
    with later(seconds=at + 60 * idle_minutes + 61):
        assert client.get("/api/users/me").status_code == 401


def test_a_key_ends_with_its_term_and_when_it_is_revoked(dana):
    value = key_of(dana)
    with later(days=91):
        assert refused(Api(value).get(ME), 401, "invalid_token")
    assert Api(value).get(ME).status_code == 200
    api_keys.revoke(ApiKey.objects.get(), actor=OPERATOR)
    assert refused(Api(value).get(ME), 401, "invalid_token")


def test_a_scope_takes_away_and_never_gives(dana):
    read, write = Api(key_of(dana, "read")), Api(key_of(dana, "write"))
    assert read.get("users/me/api-keys").status_code == 200
    for api in (read, write):
        assert refused(api.post("users/me/api-keys", {"name": "x", "scopes": ["read"]}), 403, "scope_too_narrow")
    entry = AuditEntry.objects.filter(action="access.denied").latest("id")
    assert (entry.outcome, json.loads(entry.detail_json)["ability"]) == ("denied", "account.manage")
    assert SCOPES["read"] < SCOPES["write"] < SCOPES["admin"]


def test_a_last_use_is_noted_once_a_minute_and_not_with_every_get(dana, django_assert_num_queries):
    api = Api(key_of(dana))
    api.get(ME)
    with django_assert_num_queries(1):
        assert api.get(ME).status_code == 200
    seen = ApiKey.objects.get().last_used_at
    with later(minutes=2):
        api.get(ME)
    assert ApiKey.objects.get().last_used_at > seen


def test_old_logins_are_forgotten(dana):
    access_token(dana)
    assert logins.prune() == 0
    with later(days=8):
        assert logins.prune() == 1
