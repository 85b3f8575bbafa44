"""The moving windows: one contract for the database and for Redis, and a Redis that goes away."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from django.test import Client

from accounts import codes, rates
from accounts.login_links import make_login_link
from accounts.models import LoginCode, Mail, RateWindow
from audit.models import AuditEntry
from tests import processes, redis
from tests.accounts.conftest import Api, access_token
from zcplatform import doctor, views
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import DependencyDown, RateLimited

PASSWORD = "canary-redis-7f3a91c2"


@pytest.fixture
def server(monkeypatch):
    """A Redis, and windows that are kept in it."""
    with redis.server() as made:
        monkeypatch.setattr(rates, "limiter", rates.limiter_on(made.url))
        redis.use_our_clock(monkeypatch)
        yield made


@pytest.fixture(params=["database", pytest.param("redis", marks=pytest.mark.redis)])
def store(request, db, monkeypatch):
    if request.param == "redis":
        request.getfixturevalue("server")
    else:
        monkeypatch.setattr(rates, "limiter", rates.limiter_on(""))
    return request.param


def passes(budget, *key):
    try:
        rates.spend(budget, *key)
    except RateLimited:
        return False
    return True


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def asked(email):
    return Client().post("/api/auth/otp/request", {"email": email}, content_type="application/json")


# --- one contract -----------------------------------------------------------------------------------------


def test_a_budget_is_spent_once_by_each_key(store):
    assert [passes("3/minute", "x", "a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert passes("3/minute", "x", "b")
    assert passes("4/minute", "x", "a"), "another budget is another window"


def test_the_window_moves(store):
    assert passes("2/minute", "x")
    with later(seconds=40):
        assert passes("2/minute", "x")
        assert not passes("2/minute", "x")
    with later(seconds=61):
        assert [passes("2/minute", "x"), passes("2/minute", "x")] == [True, False]


def test_a_refusal_tells_how_long_and_is_not_counted(store):
    rates.spend("1/minute", "x")
    with later(seconds=20):
        for _ in range(3):
            with pytest.raises(RateLimited) as refused:
                rates.spend("1/minute", "x")
            assert 39 <= refused.value.details["retry_after"] <= 41
    with later(seconds=61):
        assert passes("1/minute", "x")


def test_a_block_is_taken_whole_or_not_at_all(store, settings):
    settings.API_REQUESTS_PER_MINUTE = 100
    permits = [rates.Permits() for _ in range(3)]  # of three processes

    def takes(each):
        try:
            return each.take("dana").limit == 100
        except RateLimited:
            return False

    assert [takes(permits[n % 3]) for n in range(150)].count(True) == 100
    assert permits[0].take("other").remaining == 99


def test_windows_can_be_forgotten(store):
    rates.spend("1/minute", "x")
    rates.limiter.storage.reset()
    assert passes("1/minute", "x")


@pytest.mark.django_db(transaction=True)
def test_k4_processes_together_never_exceed_a_limit(store):
    """Eight processes, each its own connections, ask 30 times each for one budget of 100."""
    readers = []

    def attempts(pipe):
        os.write(pipe, bytes([sum(passes("100/hour", "shared") for _ in range(30))]))

    for _ in range(8):
        reader, writer = os.pipe()
        readers.append((processes.start(lambda pipe=writer: attempts(pipe)), reader))
        os.close(writer)
    assert [processes.wait(pid) for pid, _ in readers] == [0] * 8
    counted = [os.read(reader, 1)[0] for _, reader in readers]
    for _, reader in readers:
        os.close(reader)
    assert sum(counted) == 100


# --- in Redis ---------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_with_redis_the_database_holds_no_window(server, db):
    assert asked("dana@example.com").status_code == 202
    assert not RateWindow.objects.exists()
    keys = rates.limiter.storage.get_connection().keys("*")
    assert keys and all(key.startswith(b"zcplatform:") for key in keys)
    assert all(rates.limiter.storage.get_connection().ttl(key) > 0 for key in keys), "each goes by itself"


@pytest.mark.redis
def test_two_installations_on_one_redis_do_not_count_together(server, settings):
    assert passes("1/minute", "x")
    settings.INSTANCE = "another1"
    other = rates.limiter_on(server.url)
    assert other.hit(rates.parse("1/minute"), "x")
    other.storage.reset()
    assert not passes("1/minute", "x")


@pytest.fixture
def fresh_look(monkeypatch):
    monkeypatch.setattr(views, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(views, "_stale_heartbeat", lambda: "")


def nothing_is_done(dana):
    """Login, second step and the API refuse, and no row was written."""
    api = Api(access_token(dana))
    rows = AuditEntry.objects.count()
    code = {"email": "dana@example.com", "code": "123456"}
    rates.permits.clear()
    answers = [
        asked("dana@example.com"),
        Client().post("/api/auth/otp/verify", code, content_type="application/json"),
        api.get("users/me"),
        api.post("users/me/api-keys", {"name": "x", "scopes": ["read"]}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "rates_unavailable"), answer.content
    page = Client().post("/login", {"email": "dana@example.com"})
    assert (page.status_code, "Location" in page) == (503, False)
    assert (LoginCode.objects.count(), Mail.objects.count(), AuditEntry.objects.count()) == (0, 0, rows)
    assert Client().get("/readyz").content == b"unready"
    (finding,) = [f for f in doctor.examine() if f.check == "redis"]
    assert finding.level == "error" and "ZCPLATFORM_REDIS_URL" in finding.todo


@pytest.mark.redis
def test_a_redis_that_is_killed_lets_nobody_through_and_comes_back(server, dana, fresh_look):
    assert asked("other@example.com").status_code == 202
    LoginCode.objects.all().delete()
    Mail.objects.all().delete()
    assert Client().get("/readyz").content in (b"ok", b"stale")
    server.kill()
    nothing_is_done(dana)
    link = Client().post(f"/login/{make_login_link(dana, actor=OPERATOR)}")
    assert (link.status_code, link["Location"]) == (302, "/"), "an operator's way in needs no budget"
    server.start()
    assert asked("dana@example.com").status_code == 202
    assert Client().get("/readyz").status_code == 200
    assert [f.level for f in doctor.examine() if f.check == "redis"] == ["ok"]


@pytest.mark.redis
def test_a_redis_that_hangs_is_one_that_is_away(server, monkeypatch):
    monkeypatch.setattr(rates, "REDIS_LIMIT_S", 0.3)
    monkeypatch.setattr(rates, "limiter", rates.limiter_on(server.url))
    rates.spend("5/minute", "x")
    server.freeze()
    try:
        with pytest.raises(DependencyDown):
            rates.spend("5/minute", "x")
        assert "Timeout" in rates.fault()
    finally:
        server.thaw()
    assert passes("5/minute", "x"), "what was asked meanwhile may have been counted, and is not asked twice"
    assert [passes("5/minute", "x") for _ in range(4)].count(True) in (2, 3)


@pytest.mark.redis
def test_what_may_have_been_counted_is_not_asked_a_second_time(server, monkeypatch):
    """The server answers again at the very moment at which the first try is given up."""
    monkeypatch.setattr(rates, "REDIS_LIMIT_S", 0.3)
    monkeypatch.setattr(rates, "limiter", rates.limiter_on(server.url))
    rates.spend("5/minute", "x")
    connection = rates.limiter.storage.storage.connection_pool.connection_class
    hang_up = connection.disconnect
    monkeypatch.setattr(connection, "disconnect", lambda self, *args: (hang_up(self, *args), server.thaw()))
    server.freeze()
    with pytest.raises(DependencyDown):
        rates.spend("5/minute", "x")


@pytest.mark.redis
def test_killed_amid_the_attempts_of_processes_none_is_let_through_uncounted(server, db):
    """Each process counts what it was let through until Redis is gone; together never more than the limit."""
    reader, writer = os.pipe()

    def attempts():
        passed = 0
        try:
            for _ in range(100_000):
                passed += passes("200/hour", "shared")
        except DependencyDown:
            os.write(writer, bytes([passed]))
            return
        raise AssertionError("Redis is gone, and somebody was let through")

    pids = [processes.start(attempts) for _ in range(4)]
    while rates.limiter.get_window_stats(rates.parse("200/hour"), "shared").remaining > 100:
        pass
    server.kill()
    os.close(writer)
    assert [processes.wait(pid) for pid in pids] == [0] * 4
    assert 100 <= sum(os.read(reader, 4)) <= 200
    os.close(reader)


# --- its password, and its memory ---------------------------------------------------------------------------


@pytest.fixture
def locked(monkeypatch):
    """A Redis with a password, and how to point the windows at it with one, which nothing knows to be secret."""
    with redis.server(requirepass=PASSWORD) as made:

        def use(password):
            url = f"unix://:{password}@{made.path}"
            monkeypatch.setattr(rates, "limiter", rates.limiter_on(url))

        yield made, use


@pytest.mark.redis
def test_a_password_is_used_and_a_wrong_one_is_told_without_it(locked, dana, fresh_look, caplog):
    made, use = locked
    use(PASSWORD)
    assert passes("1/minute", "x")
    assert rates.fault() == ""
    use("wrong-" + PASSWORD)
    nothing_is_done(dana)
    use(PASSWORD)
    made.kill()
    nothing_is_done(dana)
    told = [caplog.text, str(doctor.examine()), asked("a@example.com").content.decode(), rates.fault()]
    assert "rates_unavailable" in caplog.text
    assert PASSWORD not in "".join([*told, str(vars(rates.limiter.storage))])


@pytest.mark.redis
def test_a_redis_that_drops_what_counts_is_told(server, db):
    client = rates.limiter.storage.get_connection()
    assert rates.eviction() == ""
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert rates.eviction() == "", "without a limit of its memory it drops nothing"
    client.config_set("maxmemory", "100mb")
    (finding,) = [f for f in doctor.examine() if f.check == "redis"]
    assert (finding.level, "allkeys-lru" in finding.what) == ("warning", True)


@pytest.mark.redis
def test_a_full_redis_lets_nobody_through(server, db):
    client = rates.limiter.storage.get_connection()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    with pytest.raises(DependencyDown):
        codes.request_code("dana@example.com", ip="203.0.113.7")
    assert "OutOfMemory" in rates.fault()
