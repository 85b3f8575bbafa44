"""Logging in by a code: group A of the threats, and the tokens that come of it (B4, B8)."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event

import pytest
from django.core import mail as outbox
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import codes, logins, mail, services, sign_in
from accounts.emails import normalise_email
from accounts.models import Login, LoginCode, Mail, RefreshToken, User
from accounts.rates import limiter
from audit.models import AuditEntry
from tests.accounts.conftest import Api
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import InvalidField, RateLimited, Unauthenticated

WRONG = ("000000", "999999")


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def code_for(email, ip="127.0.0.1"):
    """Ask for a code and read it from the mail."""
    codes.request_code(email, ip=ip)
    return read_code()


def read_code():
    text = mail.opened(Mail.objects.latest("pk")).text
    return re.search(r"^ {4}([0-9]{6})$", text, re.MULTILINE)[1]


def wrong_for(code):
    return f"{(int(code) + 1) % 10**6:06}"


def ask(email, client=None, **headers):
    body = {"email": email}
    return (client or Client()).post("/api/auth/otp/request", body, content_type="application/json", headers=headers)


def verify(email, code, client=None):
    body = {"email": email, "code": code}
    return (client or Client()).post("/api/auth/otp/verify", body, content_type="application/json")


def at_once(number, act):
    """``act(n)`` in so many threads that begin together."""
    barrier = Barrier(min(number, 20))

    def run(n):
        if n < 20:
            barrier.wait()
        try:
            return act(n)
        finally:
            connection.close()

    with ThreadPoolExecutor(min(number, 20)) as pool:
        return list(pool.map(run, range(number)))


def lets_in(email, code, ip="127.0.0.1", **handle):
    try:
        return codes.verify_code(email, code, ip=ip, **handle)
    except Unauthenticated:
        return None


def test_a_code_lets_its_user_in_once(dana):
    code = code_for("dana@example.com")
    answer = verify("dana@example.com", code)
    assert answer.status_code == 200, answer.content
    assert answer.json()["expires_in"] == 3600
    assert Api(answer.json()["access_token"]).get("auth/me").json()["user"]["email"] == "dana@example.com"
    again = verify("dana@example.com", code)
    assert (again.status_code, again.json()["error"]["type"]) == (401, "invalid_code")
    dana.refresh_from_db()
    assert dana.last_login
    entries = AuditEntry.objects.order_by("id").values_list("action", "outcome")
    assert list(entries) == [("login.success", "ok"), ("login.refused", "denied")]


def test_a1_a_stranger_gets_the_same_answer_by_the_same_queries(dana):
    def asked(email):
        limiter.storage.reset()
        with CaptureQueriesContext(connection) as queries:
            answer = ask(email)
        shapes = [re.sub(r"'[^']*'|\d+", "?", query["sql"])[:60] for query in queries.captured_queries]
        return answer.status_code, re.sub(rb'"handle": "[\w-]{43}"', b"", answer.content), shapes

    known, unknown = asked("dana@example.com"), asked("nobody@example.com")
    assert known == unknown
    assert known[0] == 202


def test_a1_and_nothing_is_mailed_to_a_stranger(dana):
    User.objects.create_user("gone@example.com", is_active=False)
    for email in ("nobody@example.com", "gone@example.com", "dana@example.com"):
        ask(email)
    assert mail.send_due() == 1
    assert [message.to for message in outbox.outbox] == [["dana@example.com"]]
    assert not Mail.objects.exclude(sealed_text="").exists()


def test_a1_nor_does_a_wrong_code_tell(dana):
    ask("dana@example.com")
    bodies = []
    for email in ("dana@example.com", "nobody@example.com", "unasked@example.com"):
        answer = verify(email, WRONG[0] if read_code() != WRONG[0] else WRONG[1])
        body = answer.json()["error"]
        bodies.append((answer.status_code, body["type"], body["message"], body["details"]))
    assert len(set(map(str, bodies))) == 1


def test_an_inactive_user_is_not_let_in(dana):
    code = code_for("dana@example.com")
    User.objects.update(is_active=False)
    assert verify("dana@example.com", code).status_code == 401


def test_a2_after_five_wrong_codes_even_the_right_one_is_dead(dana):
    code = code_for("dana@example.com")
    for _ in range(5):
        assert verify("dana@example.com", wrong_for(code)).status_code == 401
    assert verify("dana@example.com", code).status_code == 401
    assert LoginCode.objects.get().attempts_of_network == 5


def test_a2_the_fifth_try_still_counts(dana):
    code = code_for("dana@example.com")
    for _ in range(4):
        verify("dana@example.com", wrong_for(code))
    assert verify("dana@example.com", code).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a2_wrong_codes_at_once_leave_no_more_room_than_one_by_one():
    User.objects.create_user("dana@example.com")
    code = code_for("dana@example.com")
    assert not any(at_once(20, lambda _n: lets_in("dana@example.com", wrong_for(code))))
    assert LoginCode.objects.get().attempts_of_network == 5
    assert lets_in("dana@example.com", code) is None


@pytest.mark.django_db(transaction=True)
def test_a3_of_100_who_send_the_right_code_at_once_one_gets_in():
    user = User.objects.create_user("dana@example.com")
    code = code_for("dana@example.com")
    winners = [won for won in at_once(100, lambda _n: lets_in("dana@example.com", code)) if won]
    assert winners == [user]


@pytest.mark.django_db(transaction=True)
def test_a4_of_100_wrong_codes_at_once_five_are_compared(monkeypatch):
    User.objects.create_user("dana@example.com")
    code = code_for("dana@example.com")
    compared = []
    real = codes.hmac.compare_digest
    monkeypatch.setattr(codes.hmac, "compare_digest", lambda a, b: compared.append(1) or real(a, b))
    at_once(100, lambda n: lets_in("dana@example.com", f"{(int(code) + 1 + n) % 10**6:06}"))
    assert len(compared) == 5


@pytest.mark.parametrize(
    "code",
    [" 123456", "123456 ", "12345", "1234567", "+12345", "123 456", "１２３４５６", "١٢٣٤٥٦", "12345a", "123456\n",
     "-12345", "1e5", "0x1F", ""],
)  # fmt: skip
def test_a5_a_code_is_six_ascii_digits(dana, code):
    ask("dana@example.com")
    answer = verify("dana@example.com", code)
    assert answer.status_code == 422, answer.content
    assert LoginCode.objects.get().attempts_of_network == 0


def test_a5_leading_zeros_are_part_of_it(dana, monkeypatch):
    monkeypatch.setattr(codes.secrets, "randbelow", lambda _limit: 42)
    assert code_for("dana@example.com") == "000042"
    assert verify("dana@example.com", "42").status_code == 422
    assert verify("dana@example.com", "000042").status_code == 200


def test_a6_a_code_runs_out_and_a_clock_set_back_does_not_help(dana):
    code = code_for("dana@example.com")
    for time in ({"minutes": 10}, {"hours": -1}, {"days": 365}, {"seconds": -31}):
        with later(**time):
            assert lets_in("dana@example.com", code) is None
    with later(minutes=9, seconds=59):
        assert lets_in("dana@example.com", code) == dana


def test_a7_a_new_code_kills_the_old_one(dana, monkeypatch):
    numbers = iter((111111, 222222))
    monkeypatch.setattr(codes.secrets, "randbelow", lambda _limit: next(numbers))
    old, new = code_for("dana@example.com"), code_for("dana@example.com")
    assert lets_in("dana@example.com", old) is None
    assert lets_in("dana@example.com", new) == dana


def test_a8_a_code_is_good_for_its_own_address_only(dana):
    other = User.objects.create_user("other@example.com")
    code = code_for("dana@example.com")
    codes.request_code("other@example.com", ip="")
    LoginCode.objects.filter(email="other@example.com").update(
        code_hash=LoginCode.objects.get(email="dana@example.com").code_hash
    )
    assert lets_in("other@example.com", code) is None
    assert other.is_active


@pytest.mark.parametrize(
    "spelling", ["Dana@Example.com", " dana@example.com ", "ｄａｎａ@example.com", "DANA@EXAMPLE.COM"]
)
def test_a9_every_spelling_is_one_address_with_one_budget(dana, spelling):
    for _ in range(5):
        codes.request_code(spelling, ip="127.0.0.1")
    with pytest.raises(RateLimited):
        codes.request_code("dana@example.com", ip="127.0.0.1")
    assert lets_in(spelling, read_code()) == dana


def test_a9_a_homograph_and_another_tag_are_other_addresses():
    with pytest.raises(InvalidField):
        normalise_email("dаna@example.com")  # a Cyrillic а
    assert normalise_email("dana+x@example.com") == "dana+x@example.com"


@pytest.mark.parametrize(
    "email", ["a@b.c\r\nBcc: all@x.example", "a@b.c\nTo: x@y.z", "a@b.example, c@d.example", "a", "@", ""]
)
def test_a10_no_header_gets_in_with_an_address(db, email):
    assert ask(email).status_code == 422
    assert not Mail.objects.exists()


def test_a11_a_huge_address_is_refused_and_not_logged(db, caplog):
    assert ask("a" * 900_000 + "@example.com").status_code == 422
    assert ask("a" * 2_000_000 + "@example.com").status_code == 413
    assert all(len(record.getMessage()) < 1_000 for record in caplog.records)
    assert not LoginCode.objects.exists()


def test_a12_a_flood_on_one_address_from_many_networks_ends_in_one_long_code(dana):
    """The mails and the guesses end; the victim does not."""
    for n in range(40):
        handle = codes.request_code("dana@example.com", ip=f"203.0.113.{n}")
    assert Mail.objects.count() == 10 + 1
    long = re.search(r"^ {4}([0-9]{12})$", mail.opened(Mail.objects.latest("pk")).text, re.MULTILINE)[1]
    assert lets_in("dana@example.com", wrong_for(long[:6]), ip="203.0.113.39", handle=handle) is None
    for n in range(60):
        assert lets_in("dana@example.com", f"{(int(long) + 1 + n) % 10**12:012}", ip=f"203.0.113.{n}") is None
    victim = codes.request_code("dana@example.com", ip="198.51.100.9")
    assert Mail.objects.count() == 10 + 1, "the long code is in the mailbox already"
    assert lets_in("dana@example.com", long, ip="198.51.100.9", handle=victim) == dana
    assert lets_in("dana@example.com", long, ip="198.51.100.9") is None
    codes.request_code("dana@example.com", ip="198.51.100.10")
    assert Mail.objects.count() == 10 + 2, "a used one is replaced"
    codes.request_code("other@example.com", ip="198.51.100.9")


def test_a12_the_long_code_is_mailed_anew_while_the_old_one_is_still_good_enough(dana):
    for n in range(11):
        codes.request_code("dana@example.com", ip=f"203.0.113.{n}")
    with later(minutes=4, seconds=59):
        codes.request_code("dana@example.com", ip="198.51.100.1")
        assert Mail.objects.count() == 11
    with later(minutes=5, seconds=1):
        codes.request_code("dana@example.com", ip="198.51.100.2")
        assert Mail.objects.count() == 12


def test_a12_who_asks_too_often_is_refused_alone(dana):
    for _ in range(5):
        codes.request_code("dana@example.com", ip="203.0.113.1")
    with pytest.raises(RateLimited) as refused:
        codes.request_code("dana@example.com", ip="203.0.113.1")
    assert 0 < refused.value.details["retry_after"] <= 900
    assert lets_in("dana@example.com", code_for("dana@example.com")) == dana


def test_a13_a_stranger_kills_no_code_and_spends_no_tries(dana):
    """By the API without and with a handle, and on the page."""
    mine = code_for("dana@example.com")
    for n in range(9):
        ip = f"203.0.113.{n}"
        handle = codes.request_code("dana@example.com", ip=ip)
        for _ in range(6):
            lets_in("dana@example.com", wrong_for(mine), ip=ip)
            lets_in("dana@example.com", wrong_for(mine), ip=ip, handle=handle)
        assert lets_in("dana@example.com", mine, ip=ip) is None, "the code is its asker's"
        assert lets_in("dana@example.com", mine, ip=ip, handle=handle) is None
    assert lets_in("dana@example.com", mine) == dana


def test_a13_a_neighbour_without_the_handle_spends_no_tries_of_whoever_has_it(dana):
    handle = codes.request_code("dana@example.com", ip="127.0.0.1")
    code = read_code()
    for _ in range(6):
        lets_in("dana@example.com", wrong_for(code))
    codes.request_code("dana@example.com", ip="127.0.0.1")
    assert lets_in("dana@example.com", code, ip="198.51.100.7", handle=handle) == dana


def test_a13_a_browsers_code_is_the_browsers(dana):
    browser, neighbour = Client(), Client()
    browser.post("/login", {"email": "dana@example.com"})
    code = read_code()
    neighbour.post("/login", {"email": "dana@example.com"})
    for _ in range(6):
        neighbour.post("/login/code", {"code": wrong_for(code)})
        verify("dana@example.com", wrong_for(code))
    assert verify("dana@example.com", code).status_code == 401
    assert neighbour.post("/login/code", {"code": code}).status_code == 401
    assert browser.post("/login/code", {"code": code}).status_code == 302


def test_a7_a_handle_that_asks_again_kills_its_own_code_and_no_other(dana, monkeypatch):
    numbers = iter((111111, 222222, 333333))
    monkeypatch.setattr(codes.secrets, "randbelow", lambda _limit: next(numbers))
    first = ask("dana@example.com").json()["handle"]
    other = codes.request_code("dana@example.com", ip="203.0.113.1")
    body = {"email": "dana@example.com", "handle": first}
    again = Client().post("/api/auth/otp/request", body, content_type="application/json").json()["handle"]
    assert lets_in("dana@example.com", "111111", handle=first) is None
    assert lets_in("dana@example.com", "222222", handle=other) == dana
    told = {"email": "dana@example.com", "code": "333333", "handle": again}
    assert Client().post("/api/auth/otp/verify", told, content_type="application/json").status_code == 200


def test_a_handle_is_of_one_address_and_opens_nothing(dana):
    handle = codes.request_code("other@example.com", ip="127.0.0.1")
    code = read_code()
    assert lets_in("dana@example.com", code, handle=handle) is None
    assert handle not in str(LoginCode.objects.values())


def test_a12_a_flood_from_one_network_ends_at_its_own(dana):
    for n in range(30):
        codes.request_code(f"u{n}@example.com", ip="203.0.113.7")
    with pytest.raises(RateLimited):
        codes.request_code("dana@example.com", ip="203.0.113.7")
    codes.request_code("dana@example.com", ip="203.0.113.8")


def test_a12_the_cap_of_all_mail_only_delays(dana, monkeypatch):
    monkeypatch.setattr(mail, "PER_MINUTE", 2)
    for n in range(3):
        User.objects.create_user(f"u{n}@example.com")
        codes.request_code(f"u{n}@example.com", ip="")
    assert (mail.send_due(), mail.send_due()) == (2, 0)
    with later(minutes=1, seconds=1):
        assert mail.send_due() == 1


def test_a13_who_spends_my_budget_does_not_lock_me_out(dana, client):
    code = code_for("dana@example.com")
    for _ in range(5):
        code_for("dana@example.com", ip="198.51.100.1")
    for _ in range(3):
        with pytest.raises(RateLimited):
            codes.request_code("dana@example.com", ip="198.51.100.1")
    assert lets_in("dana@example.com", code) == dana
    with later(minutes=15, seconds=1):
        codes.request_code("dana@example.com", ip="")


def test_a14_no_mail_server_no_difference(dana, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert ask("dana@example.com").status_code == 202
    assert mail.send_due() == 0
    row = Mail.objects.get()
    assert row.attempts == 1
    assert "does not answer" in row.error
    assert mail.queue_age_s() >= 0
    assert lets_in("dana@example.com", read_code()) == dana


def test_a15_the_mail_names_the_address_from_the_settings(dana, settings):
    settings.PUBLIC_BASE_URL = "https://agents.example.com"
    assert ask("dana@example.com", host="evil.example").status_code == 400
    assert ask("dana@example.com", **{"x-forwarded-host": "evil.example"}).status_code == 202
    mail.send_due()
    assert "https://agents.example.com" in outbox.outbox[0].body
    assert "evil" not in str(outbox.outbox[0].message())


def test_a16_asking_for_a_code_makes_no_account_and_the_first_comer_no_admin(db):
    code = code_for("first@example.com")
    assert verify("first@example.com", code).status_code == 401
    Client().post("/login", {"email": "first@example.com"})
    assert not User.objects.exists()


def test_b7_no_code_stands_in_the_database(dana, settings):
    code = code_for("dana@example.com")
    rows = [str(row.__dict__) for model in (LoginCode, Mail) for row in model.objects.all()]
    assert not any(re.search(rf"\b{code}\b", row) for row in rows)
    mail.send_due()
    assert code in outbox.outbox[0].body
    assert code not in outbox.outbox[0].subject
    settings.PEPPER = "another" * 8
    assert lets_in("dana@example.com", code) is None


def test_k3_of_ipv6_the_64_counts(db):
    for n in range(30):
        codes.request_code(f"u{n}@example.com", ip=f"2001:db8:1:2::{n:x}")
    with pytest.raises(RateLimited):
        codes.request_code("x@example.com", ip="2001:db8:1:2:ffff::1")
    codes.request_code("x@example.com", ip="2001:db8:1:3::1")


@pytest.mark.django_db(transaction=True)
def test_k4_a_budget_is_shared_by_all_who_spend_it_at_once():
    def request(_number):
        try:
            codes.request_code("dana@example.com", ip="")
        except RateLimited:
            return False
        return True

    assert sum(at_once(40, request)) == 5


def logged_in(email="dana@example.com"):
    answer = verify(email, code_for(email))
    assert answer.status_code == 200, answer.content
    return answer.json()


def renew(token):
    return Client().post("/api/auth/refresh", {"refresh_token": token}, content_type="application/json")


def test_tokens_are_renewed_again_and_again(dana):
    told = logged_in()
    for _ in range(3):
        told = renew(told["refresh_token"]).json()
        assert Api(told["access_token"]).get("auth/me").status_code == 200
    assert Login.objects.count() == 1


def test_b8_a_refresh_token_sent_twice_ends_the_whole_login(dana):
    first = logged_in()
    second = renew(first["refresh_token"]).json()
    assert renew(first["refresh_token"]).status_code == 401
    assert renew(second["refresh_token"]).status_code == 401
    assert Api(second["access_token"]).get("auth/me").status_code == 401
    entry = AuditEntry.objects.get(action="login.reuse")
    assert (entry.outcome, entry.actor_email) == ("denied", "dana@example.com")


@pytest.mark.django_db(transaction=True)
def test_b8_of_20_who_renew_at_once_one_wins_and_the_login_ends():
    User.objects.create_user("dana@example.com")
    token = logged_in()["refresh_token"]
    statuses = at_once(20, lambda _n: renew(token).status_code)
    assert sorted(statuses) == [200] + [401] * 19
    assert Login.objects.get().revoked_at


def test_b8_a_refresh_token_lasts_7_days_and_a_login_90(dana):
    told = logged_in()
    with later(days=7):
        assert renew(told["refresh_token"]).status_code == 401
    told = logged_in()
    for days in range(6, 90, 6):
        with later(days=days):
            answer = renew(told["refresh_token"])
            assert answer.status_code == 200, days
            told = answer.json()
    with later(days=90):
        assert renew(told["refresh_token"]).status_code == 401


def test_b7_no_refresh_token_stands_in_the_database(dana):
    told = logged_in()
    row = RefreshToken.objects.get()
    assert told["refresh_token"] not in str(row.__dict__)
    assert renew(row.token_hash).status_code == 401


def test_b2_a_token_of_one_kind_is_none_of_another(dana):
    told = logged_in()
    assert Api(told["refresh_token"]).get("auth/me").status_code == 401
    assert renew(told["access_token"]).status_code == 401
    body = {"token": told["access_token"], "code": "123456"}
    assert Client().post("/api/auth/totp/verify", body, content_type="application/json").status_code == 401
    assert Api(sign_in.pending_token(dana)).get("auth/me").status_code == 401


def test_logging_out_ends_token_and_refresh_token(dana):
    told = logged_in()
    assert Api(told["access_token"]).post("auth/logout").status_code == 204
    assert Api(told["access_token"]).get("auth/me").status_code == 401
    assert renew(told["refresh_token"]).status_code == 401
    assert AuditEntry.objects.filter(action="login.end").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ["logout", "inactive", "super-admin"])
def test_b4_no_request_that_begins_after_the_end_gets_through(end):
    user = User.objects.create_user("dana@example.com")
    token, ended = logged_in()["access_token"], Event()

    def call(number):
        if number == 0:
            if end == "logout":
                assert Api(token).post("auth/logout").status_code == 204
            else:
                change = {"is_active": False} if end == "inactive" else {"is_superuser": True}
                User.objects.create_superuser("root@example.com")
                services.update_user(user, actor=OPERATOR, **change)
            ended.set()
            return None
        found = []
        while True:
            over = ended.is_set()
            found.append((over, Api(token).get("auth/me").status_code))
            if over:
                return found

    results = [pair for found in at_once(9, call) if found for pair in found]
    assert {status for over, status in results if over} == {401}
    assert {status for over, status in results} <= {200, 401}


def test_old_codes_and_mails_are_forgotten(dana):
    code_for("dana@example.com")
    mail.send_due()
    assert (codes.prune(), mail.prune()) == (0, 0)
    with later(days=8):
        assert (codes.prune(), mail.prune()) == (1, 1)


def test_the_sessions_are_listed_and_ended_one_by_one(dana):
    first, second = Api(logged_in()["access_token"]), Api(logged_in()["access_token"])
    browser = Client()
    browser.force_login(dana)
    listed = first.get("users/me/sessions").json()["items"]
    assert [(row["kind"], row["current"]) for row in listed] == [("browser", False), ("api", False), ("api", True)]
    assert first.delete(f"users/me/sessions/{listed[1]['id']}").status_code == 204
    assert second.get("auth/me").status_code == 401
    assert first.delete(f"users/me/sessions/{listed[1]['id']}").status_code == 404
    assert first.delete("users/me/sessions").status_code == 204
    assert browser.get("/api/auth/me").status_code == 401
    assert first.get("auth/me").status_code == 200
    assert "revoked_at" not in json.dumps(listed)
    assert logins.open_ones(dana).count() == 1


def test_c3_somebody_elses_session_and_key_are_absent(dana, root):
    api = Api(logged_in()["access_token"])
    other = logins.open_login(root, lifetime=timedelta(hours=1), origin={}, verified=False)
    absent = api.delete("users/me/sessions/00000000-0000-4000-8000-000000000000")
    foreign = api.delete(f"users/me/sessions/{other.public_id}")
    strip = lambda answer: {**answer.json()["error"], "request_id": ""}  # noqa: E731
    assert (foreign.status_code, strip(foreign)) == (absent.status_code, strip(absent))
    assert foreign.status_code == 404
