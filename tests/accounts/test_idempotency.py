from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event

import pytest
from django.db import connection, transaction

from accounts.idempotency import ABANDONED, fingerprint_of, prune, run_once
from accounts.models import IdempotencyKey, Role
from zcplatform.lib import clock
from zcplatform.lib.errors import Conflict, InvalidField

PRINT = fingerprint_of("POST", "/api/tenants", b'{"name": "acme"}')


def make(name="acme"):
    def act():
        Role.objects.create(name=name, label=name)
        return 202, {"name": name, "token": "shown-once-value", "count": 1}

    return act


def test_the_same_request_is_answered_again_without_being_done_again(db):
    first = run_once("user:1", "k-1", PRINT, make())
    assert first == (202, {"name": "acme", "token": "shown-once-value", "count": 1}, False)
    status, body, replayed = run_once("user:1", "k-1", PRINT, make())
    assert (status, replayed, body["name"], body["count"]) == (202, True, "acme", 1)
    assert Role.objects.count() == 1


def test_a_secret_is_neither_stored_nor_shown_again(db):
    run_once("user:1", "k-1", PRINT, make())
    assert "shown-once-value" not in str(IdempotencyKey.objects.values())
    assert run_once("user:1", "k-1", PRINT, make())[1]["token"] == "***"


def test_another_request_with_the_same_key_is_refused(db):
    run_once("user:1", "k-1", PRINT, make())
    with pytest.raises(InvalidField) as refused:
        run_once("user:1", "k-1", fingerprint_of("POST", "/api/tenants", b"{}"), make("other"))
    assert (refused.value.type, refused.value.status) == ("idempotency_mismatch", 422)
    assert Role.objects.count() == 1


def test_the_same_key_of_somebody_else_is_another_key(db):
    run_once("user:1", "k-1", PRINT, make())
    assert run_once("user:2", "k-1", PRINT, make("other"))[2] is False


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "a\n", "ü"])
def test_a_malformed_key_is_refused(db, key):
    with pytest.raises(InvalidField) as refused:
        run_once("user:1", key, PRINT, make())
    assert refused.value.type == "invalid_idempotency_key"


def test_an_act_that_fails_leaves_neither_its_work_nor_the_key(db):
    def fail():
        Role.objects.create(name="half", label="half")
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        run_once("user:1", "k-1", PRINT, fail)
    assert not IdempotencyKey.objects.exists()
    assert not Role.objects.exists()
    assert run_once("user:1", "k-1", PRINT, make())[2] is False


def test_a_request_that_is_running_is_not_started_again(db):
    def act():
        with pytest.raises(Conflict) as refused:
            run_once("user:1", "k-1", PRINT, make())
        assert (refused.value.type, refused.value.status) == ("idempotency_in_progress", 409)
        return make()()

    assert run_once("user:1", "k-1", PRINT, act)[2] is False
    assert Role.objects.count() == 1


def test_a_request_whose_process_died_is_done_by_the_next_one(db):
    IdempotencyKey.objects.create(scope="user:1", key="k-1", fingerprint=PRINT)
    with pytest.raises(Conflict):
        run_once("user:1", "k-1", PRINT, make())
    then = clock.now() + ABANDONED + timedelta(seconds=1)
    with clock.use(lambda: then):
        assert run_once("user:1", "k-1", PRINT, make())[2] is False


def test_who_was_overtaken_takes_its_work_back(db):
    """A process that stood still for minutes finds its key taken over, and what it did is rolled back."""
    then = clock.now() + ABANDONED + timedelta(seconds=1)

    def frozen():
        Role.objects.create(name="late", label="late")
        IdempotencyKey.objects.update(created_at=then)  # what the one who overtakes does
        return 200, {}

    with pytest.raises(Conflict) as refused:
        run_once("user:1", "k-1", PRINT, frozen)
    assert refused.value.type == "idempotency_in_progress"
    assert not Role.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_requests_at_once_one_is_done():
    barrier, done = Barrier(16), []

    def act():
        done.append(1)
        return make()()

    def send(_number):
        barrier.wait()
        try:
            return run_once("user:1", "k-1", PRINT, act)[2]
        except Conflict as error:
            return error.type
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(send, range(16)))
    assert outcomes.count(False) == 1
    assert set(outcomes) <= {False, True, "idempotency_in_progress"}
    assert (len(done), Role.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_second_request_does_not_wait_for_the_first_to_end():
    begun, answered = Event(), Event()

    def slow():
        begun.set()
        assert answered.wait(30)
        return 200, {}

    def first():
        try:
            return run_once("user:1", "k-1", PRINT, slow)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first)
        assert begun.wait(30)
        rows = IdempotencyKey.objects.filter(status=None)
        assert rows.count() == 1  # a reader is not held up, so it can say "still running"
        answered.set()
        assert running.result() == (200, {}, False)


def test_answers_older_than_a_day_are_forgotten(db):
    run_once("user:1", "old", PRINT, make())
    IdempotencyKey.objects.update(created_at=clock.now() - timedelta(hours=25))
    run_once("user:1", "new", PRINT, make("other"))
    assert prune() == 1
    assert IdempotencyKey.objects.get().key == "new"


def test_fingerprints_tell_where_a_part_ends():
    assert fingerprint_of("POST", "/a", b"b") != fingerprint_of("POST", "/ab", b"")
    with transaction.get_connection().execute_wrapper(lambda *a: pytest.fail("no query")):
        assert fingerprint_of("POST", "/a", b"b") == fingerprint_of("POST", "/a", b"b")
