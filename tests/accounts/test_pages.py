"""Logging in and one's account in a browser, without JavaScript."""

import re

import pytest
from django.test import Client

from accounts import api_keys, logins
from accounts.models import ApiKey, Login, LoginCode, Mail, User
from audit.models import AuditEntry
from tests.accounts.conftest import Api
from tests.accounts.test_codes import read_code, wrong_for
from zcplatform.lib.actors import OPERATOR


def mark_of(page):
    return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())[1]


def test_logging_in_by_address_and_code(dana):
    client = Client(enforce_csrf_checks=True)
    page = client.get("/login?next=/api/docs")
    form = {"email": " Dana@Example.com", "next": "/api/docs", "csrfmiddlewaretoken": mark_of(page)}
    assert client.post("/login", form)["Location"] == "/login/code"
    page = client.get("/login/code")
    assert 'autocomplete="one-time-code"' in page.content.decode()
    before = client.cookies["zc_session"].value
    done = client.post("/login/code", {"code": f"  {read_code()}\n", "csrfmiddlewaretoken": mark_of(page)})
    assert (done.status_code, done["Location"]) == (302, "/api/docs")
    assert client.cookies["zc_session"].value != before  # B5
    assert client.get("/api/docs").status_code == 200
    assert AuditEntry.objects.get().action == "login.success"


def test_a_wrong_code_may_be_mended(dana, client):
    client.post("/login", {"email": "dana@example.com"})
    code = read_code()
    answer = client.post("/login/code", {"code": wrong_for(code)})
    assert answer.status_code == 401
    assert b"wrong, used or too old" in answer.content
    assert client.post("/login/code", {"code": "x"}).status_code == 422
    assert client.post("/login/code", {"code": code})["Location"] == "/account"


def test_a1_a_stranger_sees_the_same_pages(dana):
    def seen(email):
        client = Client()
        first = client.post("/login", {"email": email})
        page = client.get("/login/code").content.decode().replace(email, "")
        return first.status_code, first["Location"], re.sub(r'value="[^"]+"', "", page)

    assert seen("dana@example.com") == seen("nobody@example.com")


def test_a_bad_address_and_a_spent_budget_are_told_on_the_page(client, db):
    answer = client.post("/login", {"email": "a@b.c\r\nBcc: x"})
    assert answer.status_code == 422
    assert not Mail.objects.exists()
    for _ in range(5):
        assert client.post("/login", {"email": "dana@example.com"}).status_code == 302
    answer = client.post("/login", {"email": "dana@example.com"})
    assert answer.status_code == 429
    assert b"try again in" in answer.content


@pytest.mark.parametrize("path", ["/login/code", "/login/second-factor"])
def test_a_step_is_not_begun_in_the_middle(client, db, path):
    assert client.get(path)["Location"] == "/login"
    assert client.post(path, {"code": "123456"})["Location"] == "/login"


@pytest.mark.parametrize("path", ["/account", "/account/second-factor"])
def test_strangers_log_in_first(client, db, path):
    assert client.get(path)["Location"] == "/login?next=%2Faccount"
    assert client.get("/login/again")["Location"] == "/login?next=%2Faccount"


@pytest.mark.parametrize(
    "path",
    [
        "/account/keys",
        "/account/sessions/end-others",
        "/account/second-factor/begin",
        "/account/second-factor/codes",
        "/account/second-factor/remove",
        "/logout",
    ],
)
def test_k5_k9_what_changes_something_is_a_post_with_the_pages_token(dana, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(dana)
    assert client.get(path).status_code == 405
    assert client.post(path).status_code == 403


def test_k9_looking_changes_nothing(dana, client):
    client.force_login(dana)
    for path in ("/login", "/account", "/account/second-factor", "/api/docs", "/login/again"):
        client.get(path)
    assert not ApiKey.objects.exists()
    assert not LoginCode.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_key_is_made_shown_once_and_revoked(dana, client):
    client.force_login(dana)
    page = client.post("/account/keys", {"name": "deploy", "scope": "write", "days": 30})
    value = re.search(r"<code>(zck_[\w-]{43})</code>", page.content.decode())[1]
    assert page["Cache-Control"] == "no-store, private"
    assert value not in client.get("/account").content.decode()
    assert Api(value).get("users/me").status_code == 200
    client.post(f"/account/keys/{ApiKey.objects.get().public_id}/revoke")
    assert Api(value).get("users/me").status_code == 401


@pytest.mark.parametrize("change", [{"name": ""}, {"scope": "owner"}, {"days": 0}, {"days": 400}, {"name": "a\nb"}])
def test_a_bad_key_is_refused_on_the_page(dana, client, change):
    client.force_login(dana)
    assert client.post("/account/keys", {"name": "x", "scope": "read", "days": 30, **change}).status_code == 422
    assert not ApiKey.objects.exists()


def test_c3_somebody_elses_key_and_session_are_absent(dana, root, client):
    key, _ = api_keys.create(root, actor=OPERATOR, name="x", scopes=["read"])
    Client().force_login(root)
    other = Login.objects.get(user=root)
    client.force_login(dana)
    assert client.post(f"/account/keys/{key.public_id}/revoke").status_code == 404
    assert client.post(f"/account/sessions/{other.public_id}/end").status_code == 404
    assert logins.open_ones(root).count() == 1


def test_sessions_are_ended_from_the_page(dana):
    one, two, three = Client(), Client(), Client()
    for client in (one, two, three):
        client.force_login(dana)
    second = logins.open_ones(dana)[1]
    assert one.post(f"/account/sessions/{second.public_id}/end").status_code == 302
    assert two.get("/account").status_code == 302
    assert three.get("/account").status_code == 200
    one.post("/account/sessions/end-others")
    assert three.get("/account").status_code == 302
    assert one.get("/account").status_code == 200


def test_b4_a_cookie_kept_over_a_logout_is_worth_nothing(dana, client):
    client.force_login(dana)
    cookie = client.cookies["zc_session"].value
    client.post("/logout")
    thief = Client()
    thief.cookies["zc_session"] = cookie
    assert thief.get("/account").status_code == 302
    assert Login.objects.get().revoked_at


def test_k10_names_are_text(dana, client):
    User.objects.filter(pk=dana.pk).update(name="<img src=x onerror=alert(1)>")
    api_keys.create(dana, actor=OPERATOR, name="<script>x</script>", scopes=["read"])
    client.force_login(dana)
    page = client.get("/account", headers={"user-agent": "<b>agent</b>"}).content
    for text in (b"<img src=x", b"<script>", b"<b>agent"):
        assert text not in page
