import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from accounts.login_links import consume_login_link, login_url, make_login_link, user_of_link
from accounts.models import LoginLink, User
from accounts.pages import local_path
from audit.models import AuditEntry
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Misconfigured, Unauthenticated
from zcplatform.lib.redact import scrub


@pytest.fixture
def user(db):
    return User.objects.create_user("dana@example.com")


@pytest.fixture
def root(db):
    return User.objects.create_superuser("root@example.com")


def later(minutes):
    then = clock.now() + timedelta(minutes=minutes)
    return clock.use(lambda: then)


def test_a_link_lets_its_user_in_once(user):
    token = make_login_link(user, actor=OPERATOR)
    assert user_of_link(token) == user
    assert consume_login_link(token, ip="203.0.113.7", request_id="r-1") == user
    assert user_of_link(token) is None
    with pytest.raises(Unauthenticated) as refused:
        consume_login_link(token)
    assert refused.value.type == "invalid_login_link"
    made, used, again = AuditEntry.objects.order_by("id")
    assert (made.action, used.action, again.action) == ("login.link", "login.success", "login.refused")
    assert (used.actor_email, used.ip_address, used.request_id) == (user.email, "203.0.113.7", "r-1")
    assert again.outcome == "denied"


def test_b7_only_a_hash_with_the_pepper_is_stored(user, settings):
    token = make_login_link(user, actor=OPERATOR)
    stored = LoginLink.objects.get().token_hash
    assert token not in stored
    assert len(token) >= 43
    with pytest.raises(Unauthenticated):
        consume_login_link(stored)
    settings.PEPPER = "another" * 8
    with pytest.raises(Unauthenticated):
        consume_login_link(token)
    settings.PEPPER = ""
    with pytest.raises(Misconfigured):
        consume_login_link(token)


def test_a_link_runs_out_after_15_minutes(user):
    token = make_login_link(user, actor=OPERATOR)
    with later(14.9):
        assert user_of_link(token) == user
    with later(15), pytest.raises(Unauthenticated):
        consume_login_link(token)


def test_an_inactive_user_is_not_let_in(user):
    token = make_login_link(user, actor=OPERATOR)
    User.objects.update(is_active=False)
    with pytest.raises(Unauthenticated):
        consume_login_link(token)
    user.refresh_from_db()
    with pytest.raises(Conflict):
        make_login_link(user, actor=OPERATOR)


def test_old_links_are_swept_when_new_ones_are_made(user):
    make_login_link(user, actor=OPERATOR)
    with later(60 * 24 + 16):
        make_login_link(user, actor=OPERATOR)
    assert LoginLink.objects.count() == 1


def test_a_token_is_scrubbed_from_logs_and_absent_from_the_audit(user):
    token = make_login_link(user, actor=OPERATOR)
    assert token not in scrub(f"opened {token}")
    consume_login_link(token)
    assert not AuditEntry.objects.filter(detail_json__contains=token).exists()


@pytest.mark.django_db(transaction=True)
def test_a3_of_100_callers_at_once_one_gets_in():
    user = User.objects.create_user("dana@example.com")
    token = make_login_link(user, actor=OPERATOR)
    barrier = Barrier(20)

    def consume(number):
        if number < 20:
            barrier.wait()
        try:
            return consume_login_link(token)
        except Unauthenticated:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        winners = [won for won in pool.map(consume, range(100)) if won]
    assert winners == [user]
    assert AuditEntry.objects.filter(action="login.success").count() == 1
    assert AuditEntry.objects.filter(action="login.refused").count() == 99


def test_a15_the_address_comes_from_the_settings(user, settings):
    settings.PUBLIC_BASE_URL = "https://agents.example.com"
    token = make_login_link(user, actor=OPERATOR)
    assert login_url(token) == f"https://agents.example.com/login/{token}"


def test_k9_looking_at_a_link_changes_nothing(user, client):
    token = make_login_link(user, actor=OPERATOR)
    for _ in range(3):
        assert client.get(f"/login/{token}").status_code == 200
        assert client.head(f"/login/{token}").status_code == 200
    assert "zc_session" not in client.cookies
    assert LoginLink.objects.get().used_at is None
    assert AuditEntry.objects.count() == 1
    assert client.get("/login/unknown-token").status_code == 410
    assert client.get("/login/" + "x" * 5_000).status_code == 410


def test_posting_a_link_logs_in_and_leads_on(root, user):
    for who, place in ((root, "/admin/"), (user, "/account")):
        client = Client()
        token = make_login_link(who, actor=OPERATOR)
        answer = client.post(f"/login/{token}")
        assert (answer.status_code, answer["Location"]) == (302, place)
        assert who.email.encode() in client.get("/login").content
        assert client.post(f"/login/{token}").status_code == 410


def test_b5_the_session_key_is_a_fresh_one(root, client):
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["zc_session"] = planted = session.session_key
    client.post(f"/login/{make_login_link(root, actor=OPERATOR)}")
    assert client.cookies["zc_session"].value != planted
    old = Client()
    old.cookies["zc_session"] = planted
    assert old.get("/admin/").status_code == 302


def test_k5_a_post_without_the_forms_token_is_refused_and_the_link_stays(user):
    client = Client(enforce_csrf_checks=True)
    token = make_login_link(user, actor=OPERATOR)
    refused = client.post(f"/login/{token}")
    assert refused.status_code == 403
    assert b"This form is too old" in refused.content
    program = client.post(f"/login/{token}", headers={"accept": "application/json"})
    assert program.json()["error"]["type"] == "forbidden"
    page = client.get(f"/login/{token}").content.decode()
    mark = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    assert client.post(f"/login/{token}", {"csrfmiddlewaretoken": mark}).status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https:evil.example",
        "https://evil.example/",
        "///evil.example",
        "javascript:alert(1)",
        "/\n/evil.example",
        " //evil.example",
        "evil",
        "",
    ],
)
def test_k12_next_leads_to_local_pages_only(root, client, path):
    assert local_path(path) == ""
    token = make_login_link(root, actor=OPERATOR)
    assert client.post(f"/login/{token}", {"next": path})["Location"] == "/admin/"


def test_k12_a_local_next_is_kept(root, client):
    token = make_login_link(root, actor=OPERATOR)
    place = "/admin/accounts/user/?q=x"
    assert b'name="next"' in client.get(f"/login/{token}", {"next": place}).content
    assert client.post(f"/login/{token}", {"next": place})["Location"] == place


def test_logging_out_ends_the_session_and_is_audited(root, client):
    client.force_login(root)
    assert client.get("/logout").status_code == 405
    assert client.post("/logout")["Location"] == "/login"
    assert client.get("/admin/").status_code == 302
    assert AuditEntry.objects.filter(action="login.end", actor_email=root.email).count() == 1
    assert client.post("/logout").status_code == 302
    assert AuditEntry.objects.filter(action="login.end").count() == 1


def test_the_command_prints_an_address_that_works(user, client, settings):
    out = io.StringIO()
    call_command("login_link", "Dana@Example.com ", stdout=out)
    url = out.getvalue().strip()
    assert url.startswith(settings.PUBLIC_BASE_URL + "/login/")
    assert client.post(url.removeprefix(settings.PUBLIC_BASE_URL)).status_code == 302
    out = io.StringIO()
    call_command("login_link", user.email, "--json", stdout=out)
    assert json.loads(out.getvalue())["expires_in"] == 900
    assert AuditEntry.objects.filter(action="login.link", actor_id="operator").count() == 2


def test_the_command_refuses_whom_it_does_not_know(user):
    with pytest.raises(CommandError, match="no user with the e-mail address nobody@example"):
        call_command("login_link", "nobody@example.com")
    with pytest.raises(CommandError, match="not an e-mail address"):
        call_command("login_link", "a@b.c\r\nBcc: x")
    User.objects.update(is_active=False)
    with pytest.raises(CommandError, match="not active"):
        call_command("login_link", user.email)
    assert not LoginLink.objects.exists()
