"""The second factor and the step-up, by API, page and command."""

import re
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken

from accounts import logins, second_factor, services, stepup
from accounts.models import ApiKey, Login, User
from accounts.second_factor import AppDevice
from audit.models import AuditEntry
from tests.accounts.conftest import Api, access_token, key_of
from tests.accounts.test_codes import at_once, code_for, verify
from tests.commands import manage
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, RateLimited, Unauthenticated


def app_code(user, steps=0):
    """What the app shows, ``steps`` half minutes from now; a later one where one was used already."""
    totp = TOTP(AppDevice.objects.get(user=user).bin_key)
    totp.time = time.time() + 30 * steps
    return f"{totp.token():06}"


@pytest.fixture
def enrolled(dana):
    """Dana, with an app and recovery codes."""
    dana.recovery = second_factor.enrol_by_operator(dana, actor=OPERATOR).recovery_codes
    dana.refresh_from_db()
    return dana


def second(token, code):
    body = {"token": token, "code": code}
    return Client().post("/api/auth/totp/verify", body, content_type="application/json")


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def test_a_code_alone_gives_only_a_token_for_the_second_step(enrolled):
    told = verify("dana@example.com", code_for("dana@example.com")).json()
    assert told["access_token"] is told["refresh_token"] is None
    token = told["second_factor_token"]
    assert Api(token).get("auth/me").status_code == 401
    assert second(token, "000000").status_code == 401
    assert not Login.objects.exists()
    done = second(token, app_code(enrolled))
    assert done.status_code == 200, done.content
    assert Api(done.json()["access_token"]).get("auth/me").status_code == 200
    assert Login.objects.get().verified_at
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["second_factor.enrol", "login.refused", "login.success"]


def test_b3_the_second_step_has_its_time(enrolled, root):
    token = verify("dana@example.com", code_for("dana@example.com")).json()["second_factor_token"]
    services.update_user(enrolled, actor=OPERATOR, name="Dana")
    assert second(token, app_code(enrolled)).status_code == 200
    User.objects.update(stamp=5)
    assert second(token, app_code(enrolled, 1)).status_code == 401


def test_an_apps_code_works_once(enrolled):
    second_factor.verify(enrolled, app_code(enrolled))
    with pytest.raises(Unauthenticated):
        second_factor.verify(enrolled, app_code(enrolled))
    second_factor.verify(enrolled, app_code(enrolled, 1))


def outcome(user, code):
    try:
        second_factor.verify(user, code)
    except (Unauthenticated, RateLimited):
        return False
    return True


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_a3_of_ten_who_send_one_code_at_once_one_gets_in(kind):
    user = User.objects.create_user("dana@example.com")
    recovery = second_factor.enrol_by_operator(user, actor=OPERATOR).recovery_codes
    code = app_code(user) if kind == "app" else recovery[0]
    assert sum(at_once(10, lambda _n: outcome(user, code))) == 1


def test_a_recovery_code_works_once_however_it_is_written(enrolled):
    first, other = enrolled.recovery[:2]
    second_factor.verify(enrolled, f" {first.upper().replace('-', ' ')} ")
    with pytest.raises(Unauthenticated):
        second_factor.verify(enrolled, first)
    second_factor.verify(enrolled, other.replace("-", ""))
    assert second_factor.codes_left(enrolled) == 8


def test_a_recovery_code_is_its_users_own(enrolled):
    other = User.objects.create_user("other@example.com")
    second_factor.enrol_by_operator(other, actor=OPERATOR)
    with pytest.raises(Unauthenticated):
        second_factor.verify(other, enrolled.recovery[0])


def test_b7_the_database_holds_neither_secret(enrolled, settings):
    device = AppDevice.objects.get()
    stored = " ".join([str(device.__dict__), *map(str, StaticToken.objects.values())])
    assert device.bin_key.hex() not in stored
    assert second_factor.app_secret(device) not in stored
    assert not any(code in stored or code.replace("-", "") in stored for code in enrolled.recovery)
    plain = TOTP(bytes.fromhex(device.key))  # django-otp's own reading of the row
    plain.time = time.time()
    assert f"{plain.token():06}" != app_code(enrolled)
    before = device.bin_key
    settings.PEPPER = "another" * 8
    assert AppDevice.objects.get().bin_key != before


def test_a_row_moved_to_another_user_is_another_secret(enrolled):
    before = AppDevice.objects.get().bin_key
    AppDevice.objects.update(user=User.objects.create_user("other@example.com"))
    assert AppDevice.objects.get().bin_key != before


def test_guessing_ends_at_a_budget(enrolled):
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            second_factor.verify(enrolled, "000000")
    with pytest.raises(RateLimited):
        second_factor.verify(enrolled, app_code(enrolled))
    with later(minutes=15, seconds=1):
        second_factor.verify(enrolled, app_code(enrolled))


def test_who_reads_the_mail_and_guesses_shuts_the_user_out_of_nothing(enrolled):
    """Open logins count for themselves, and a recovery code is tried from elsewhere."""
    login = logins.open_login(enrolled, lifetime=timedelta(hours=1), origin={}, verified=False)
    for wrong in ["000000"] * 12 + ["aaaaa-bbbbb"] * 12:
        with pytest.raises((Unauthenticated, RateLimited)):
            second_factor.verify(enrolled, wrong, ip="203.0.113.1")
    second_factor.step_up(enrolled, login, app_code(enrolled), actor=enrolled.as_actor())
    second_factor.verify(enrolled, enrolled.recovery[0], ip="198.51.100.1")


def test_enrolling_ends_what_was_opened_before(dana):
    token, key = access_token(dana), key_of(dana)
    browser = Client()
    browser.force_login(dana)
    second_factor.enrol_by_operator(dana, actor=OPERATOR)
    assert Api(token).get("users/me").status_code == 401
    assert Api(key).get("users/me").status_code == 401
    assert browser.get("/api/users/me").status_code == 401


def test_a_session_without_the_second_factor_is_none_for_whoever_enrolled(enrolled):
    browser = Client()
    browser.force_login(enrolled)  # as if some way in forgot to ask
    assert browser.get("/api/users/me").status_code == 401
    assert browser.get("/account").status_code == 302
    answer = Api(access_token(enrolled)).get("users/me")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "second_factor_required")


def test_the_admin_wants_the_second_factor_of_those_who_enrolled(root, client):
    second_factor.enrol_by_operator(root, actor=OPERATOR)
    client.force_login(root)
    assert client.get("/admin/").status_code == 302
    client.post("/login", {"email": "root@example.com"})
    from tests.accounts.test_codes import read_code

    assert client.post("/login/code", {"code": read_code()})["Location"] == "/login/second-factor"
    assert client.get("/admin/").status_code == 302
    assert client.post("/login/second-factor", {"code": app_code(root)})["Location"] == "/"
    assert client.get("/admin/").status_code == 200


def test_step_up_is_asked_before_a_key_is_made_and_lasts_ten_minutes(enrolled):
    api = Api(access_token(enrolled, verified=True))
    body = {"name": "x", "scopes": ["read"]}
    assert api.post("users/me/api-keys", body).status_code == 201
    with later(minutes=10):
        answer = api.post("users/me/api-keys", body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "step_up_required")
        assert api.post("auth/step-up", {"code": "000000"}).status_code == 401
        assert api.post("users/me/api-keys", body).status_code == 403
        assert api.post("auth/step-up", {"code": app_code(enrolled)}).status_code == 204
        assert api.post("users/me/api-keys", body).status_code == 201
    assert timedelta(minutes=15) >= stepup.FRESH
    told = AuditEntry.objects.filter(action="login.verify").order_by("id").values_list("outcome", "actor_email")
    assert list(told) == [("denied", "dana@example.com"), ("ok", "dana@example.com")]


def test_closing_an_account_asks_for_the_step_up_by_whatever_route(root, dana):
    second_factor.enrol_by_operator(root, actor=OPERATOR)
    root.refresh_from_db()
    api, account = Api(access_token(root, verified=True)), f"admin/users/{dana.public_id}"
    with later(minutes=10):
        for answer in (api.delete(account), api("patch", account, {"is_active": False})):
            assert (answer.status_code, answer.json()["error"]["type"]) == (403, "step_up_required")
        assert api("patch", account, {"name": "Dana D."}).status_code == 200
    dana.refresh_from_db()
    assert dana.is_active


def test_a_key_passes_where_its_scopes_do(enrolled):
    api = Api(key_of(enrolled, "admin"))
    assert api.post("users/me/api-keys", {"name": "x", "scopes": ["read"]}).status_code == 201
    assert api.post("auth/step-up", {"code": "123456"}).status_code == 409


def test_whoever_enrolled_nothing_is_not_asked(dana):
    api = Api(access_token(dana))
    with later(minutes=30):
        assert api.post("users/me/api-keys", {"name": "x", "scopes": ["read"]}).status_code == 201
    assert api.post("auth/step-up", {"code": "123456"}).json()["error"]["type"] == "not_enrolled"


def logged_in(user):
    """A browser whose second factor was shown just now."""
    client = Client()
    client.force_login(user)
    Login.objects.filter(user=user).update(verified_at=clock.now())
    return client


def test_the_admin_asks_again_before_a_super_admin_is_made(root, dana):
    second_factor.enrol_by_operator(root, actor=OPERATOR)
    root.refresh_from_db()
    client = logged_in(root)
    page = f"/admin/accounts/user/{dana.pk}/change/"
    Login.objects.update(verified_at=clock.now() - timedelta(minutes=11))
    data = {"name": "", "is_active": "on", "is_superuser": "on"}
    answer = client.post(page, data, headers={"referer": f"http://testserver{page}"})
    assert answer["Location"] == f"/login/again?next={page.replace('/', '%2F')}"
    dana.refresh_from_db()
    assert not dana.is_superuser
    assert client.post(answer["Location"], {"code": app_code(root)})["Location"] == page
    assert client.post(page, data).status_code == 302
    dana.refresh_from_db()
    assert dana.is_superuser


def test_the_admin_asks_again_before_a_tenant_is_deleted(root, tenant):
    second_factor.enrol_by_operator(root, actor=OPERATOR)
    root.refresh_from_db()
    client = logged_in(root)
    place = reverse("admin:tenants_tenant_act", args=[tenant.pk, "delete"])
    assert client.get(place).status_code == 200
    Login.objects.update(verified_at=clock.now() - timedelta(minutes=11))
    assert client.get(place)["Location"].startswith("/login/again?next=%2Fadmin%2Ftenants")
    assert client.post(place, {"typed": tenant.slug})["Location"].startswith("/login/again")
    tenant.refresh_from_db()
    assert tenant.desired != "deleted"


def test_k12_after_the_step_up_one_stays_on_this_site(root):
    second_factor.enrol_by_operator(root, actor=OPERATOR)
    root.refresh_from_db()
    client = logged_in(root)
    for n, place in enumerate(("//evil.example", "https://evil.example/", "/\\evil.example")):
        code = app_code(root, n - 1)
        answer = client.post(f"/login/again?next={place}", {"code": code})
        assert answer["Location"] == "/account"


def test_it_is_enrolled_on_the_page(dana, client):
    client.force_login(dana)
    key_of(dana)
    before = client.cookies["zc_session"].value
    assert client.get("/account/second-factor")["Location"] == "/account"
    client.post("/account/second-factor/begin")
    page = client.get("/account/second-factor").content.decode()
    device = AppDevice.objects.get()
    assert second_factor.app_secret(device) in page
    assert 'src="data:image/svg+xml' in page
    assert client.post("/account/second-factor", {"code": "000000"}).status_code == 401
    dana.refresh_from_db()
    assert dana.second_factor_at is None
    done = client.post("/account/second-factor", {"code": app_code(dana)})
    codes = re.findall(r"<code>([a-z2-7]{5}-[a-z2-7]{5})</code>", done.content.decode())
    assert len(set(codes)) == 10
    dana.refresh_from_db()
    assert dana.second_factor_at
    assert client.get("/account").status_code == 200  # still in, by a fresh session
    assert client.cookies["zc_session"].value != before
    assert Api(key_of(dana)).get("users/me").status_code == 200
    assert ApiKey.objects.filter(stamp=0).count() == 1  # the old one, dead
    second_factor.verify(dana, codes[3])


def test_new_codes_and_removal_on_the_page_want_a_step_up(enrolled):
    client = logged_in(enrolled)
    fresh = client.post("/account/second-factor/codes").content.decode()
    assert not any(code in fresh for code in enrolled.recovery)
    assert second_factor.codes_left(enrolled) == 10
    Login.objects.update(verified_at=clock.now() - timedelta(minutes=11))
    for page in ("codes", "remove"):
        answer = client.post(f"/account/second-factor/{page}")
        assert answer["Location"] == "/login/again?next=%2Faccount"
    assert client.post("/login/again?next=/account", {"code": app_code(enrolled)}).status_code == 302
    assert client.post("/account/second-factor/remove").status_code == 302
    enrolled.refresh_from_db()
    assert enrolled.second_factor_at is None
    assert client.get("/account").status_code == 200
    assert not AppDevice.objects.exists()


def test_what_can_not_be(dana):
    with pytest.raises(Conflict):
        second_factor.confirm(dana, "123456", actor=OPERATOR)
    with pytest.raises(Conflict):
        second_factor.remove(dana, actor=OPERATOR)
    with pytest.raises(Conflict):
        second_factor.new_recovery_codes(dana, actor=OPERATOR)
    second_factor.enrol_by_operator(dana, actor=OPERATOR)
    with pytest.raises(Conflict):
        second_factor.begin(dana)


def test_the_command_enrols_and_removes(dana):
    told = manage("second_factor", "Dana@example.com", "--enrol")
    assert "Recovery codes" in told.out
    assert "▀" in told.out or "█" in told.out
    assert second_factor.app_secret(AppDevice.objects.get()) in told.out
    assert manage("second_factor", "dana@example.com", "--enrol").code == 1
    assert manage("second_factor", "dana@example.com", "--json").json["recovery_codes_left"] == 10
    assert "no second factor" in manage("second_factor", "dana@example.com", "--remove").out
    assert manage("second_factor", "nobody@example.com").code == 1
    shown = manage("second_factor", "dana@example.com", "--enrol", "--json").json
    assert shown["url"].startswith("otpauth://totp/")
    assert len(shown["recovery_codes"]) == 10


def test_django_otps_own_admin_pages_are_not_there(root, client):
    client.force_login(root)
    for name in ("otp_totp/totpdevice", "otp_static/staticdevice", "accounts/appdevice"):
        assert client.get(f"/admin/{name}/").status_code == 404
