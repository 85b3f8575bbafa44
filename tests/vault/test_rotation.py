"""Rotation: nothing is ever unreadable, whatever is killed, raced or damaged."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from audit.models import AuditEntry
from audit.services import verify_chain
from tests import processes
from vault import keyring, rotation, services
from vault.models import KeyVersion, Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, NotFound
from zcplatform.lib.redact import SecretStr


@pytest.fixture
def values(vault, put) -> dict[int, str]:
    """Seven secrets and what they say."""
    texts = [f"value-number-{number:06}" for number in range(7)]
    return {put(text, field=f"f{number}").pk: text for number, text in enumerate(texts)}


def read_all() -> dict[int, str]:
    opened = services.reveal_many(list(Secret.objects.all()), actor=OPERATOR, why="test")
    return {pk: value.reveal() for pk, value in opened.items()}


def versions() -> list[int]:
    return sorted(set(Secret.objects.values_list("key_version", flat=True)))


def rotate_in_threes():
    return services.rotate(batch=3)


def test_every_secret_moves_to_the_new_version_and_the_old_one_is_retired(values):
    told = []
    result = services.rotate(batch=3, on_progress=lambda done, total: told.append((done, total)))
    assert (result.version, result.reencrypted, result.retired, result.resumed) == (2, 7, (1,), False)
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert read_all() == values and versions() == [2]
    ring = keyring.load()
    assert [bool(key.retired_at) for key in ring.keys] == [True, False]
    assert [bool(row.retired_at) for row in KeyVersion.objects.order_by("version")] == [True, False]
    actions = AuditEntry.objects.filter(resource_type="vault_key").values_list("action", flat=True)
    assert list(actions.order_by("id")) == ["key.create", "key.rotate", "key.retire"]


def test_each_rotation_appends_a_version(values):
    assert [services.rotate().version for _ in range(3)] == [2, 3, 4]
    assert read_all() == values
    assert [key.version for key in keyring.load().keys] == [1, 2, 3, 4]


def test_the_ciphertext_changes_and_the_time_of_the_value_does_not(values):
    before = dict(Secret.objects.values_list("pk", "ciphertext"))
    times = dict(Secret.objects.values_list("pk", "updated_at"))
    services.rotate()
    after = dict(Secret.objects.values_list("pk", "ciphertext"))
    assert not set(before.values()) & set(after.values())
    assert times == dict(Secret.objects.values_list("pk", "updated_at"))


POINTS = [
    "vault.rotate.append",
    "private_files.written",
    "private_files.replaced",
    "vault.rotate.appended",
    "vault.rotate.mirroring",
    "vault.rotate.mirrored",
    "vault.rotate.row",
    "vault.rotate.row@2",
    "vault.rotate.row@5",
    "vault.rotate.batch",
    "vault.rotate.batch@2",
    "vault.rotate.reencrypted",
    "vault.rotate.retired",
    "private_files.written@2",
    "private_files.replaced@2",
    "vault.rotate.done",
]
APPENDED_NOTHING = {"vault.rotate.append", "private_files.written"}
FINISHED = {"private_files.replaced@2", "vault.rotate.done"}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.django_db(transaction=True)
def test_i7_killed_anywhere_every_secret_is_readable_and_the_next_call_finishes(values, put, point):
    name, _, nth = point.partition("@")
    assert processes.run(rotate_in_threes, f"{name}=kill@{nth or 1}") == processes.KILLED

    assert read_all() == values
    late = put("stored after the kill")
    values[late.pk] = "stored after the kill"
    status = services.status()
    assert status["unfinished"] is (point not in APPENDED_NOTHING | FINISHED)
    assert status["running"] is False

    result = rotate_in_threes()
    assert result.resumed is status["unfinished"]
    assert result.version == (3 if point in FINISHED else 2), "a rotation is finished, not begun anew"
    assert read_all() == values and versions() == [result.version]
    status = services.status()
    assert status["unfinished"] is False and status["current"] == result.version
    assert [bool(row["retired_at"]) for row in status["versions"]] == [True] * (result.version - 1) + [False]
    assert verify_chain().fault is None


@pytest.mark.django_db(transaction=True)
def test_i7_killed_again_and_again_it_still_ends(values):
    for nth in (1, 2, 3):
        assert processes.run(rotate_in_threes, f"vault.rotate.row=kill@{nth}") == processes.KILLED
        assert read_all() == values
    assert processes.run(rotate_in_threes, "vault.rotate.batch=kill") == processes.KILLED
    assert processes.run(rotate_in_threes, "vault.rotate.batch=kill") == processes.KILLED
    assert rotate_in_threes().version == 2
    assert read_all() == values


def test_i7_at_every_step_every_secret_is_readable_and_new_ones_can_be_stored(values, put, monkeypatch):
    steps = []

    def look(name):
        steps.append(name)
        assert read_all() == values
        text = f"stored at {len(steps)}"
        values[put(text).pk] = text

    monkeypatch.setattr(rotation, "failpoint", look)
    services.rotate(batch=3)
    assert len(steps) > 10
    assert read_all() == values and versions() == [2]


def hold_a_rotation() -> int:
    """A process that stands in the middle of a rotation until it is killed."""
    child = processes.start(rotate_in_threes, "vault.rotate.batch=sleep:60")
    while KeyVersion.objects.count() < 2:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended too early"
        time.sleep(0.01)
    return child


@pytest.mark.django_db(transaction=True)
def test_i8_a_second_rotation_is_refused_while_one_runs_and_takes_over_when_it_dies(values):
    child = hold_a_rotation()
    try:
        for act in (services.rotate, lambda: services.remove_key(1)):
            with pytest.raises(Conflict) as error:
                act()
            assert (error.value.type, error.value.status) == ("rotation_in_progress", 409)
        assert services.status()["running"] is True
    finally:
        os.kill(child, signal.SIGKILL)
        assert processes.wait(child) == processes.KILLED
    result = services.rotate()
    assert (result.version, result.resumed) == (2, True)
    assert read_all() == values


@pytest.mark.django_db(transaction=True)
def test_i8_many_at_once_lose_no_version(values):
    def act():
        try:
            services.rotate(batch=2)
        except Conflict:
            os._exit(9)

    children = [processes.start(act) for _ in range(5)]
    codes = [processes.wait(child) for child in children]
    assert set(codes) <= {0, 9} and 0 in codes
    done = codes.count(0)
    assert [key.version for key in keyring.load().keys] == list(range(1, done + 2))
    assert read_all() == values


@pytest.mark.django_db(transaction=True)
def test_i9_a_process_that_knows_the_old_version_reads_what_is_under_the_new_one(values, monkeypatch):
    keyring.load()
    assert processes.run(rotate_in_threes) == 0
    # Even where the file's size and times tell nothing.
    monkeypatch.setattr(keyring, "_signature", lambda path: ("same", 0, 0, 0, 0, 0))
    monkeypatch.setattr(keyring, "_cached", (("same", 0, 0, 0, 0, 0), keyring.load().without(2)))
    assert keyring.load().get(2) is None
    assert read_all() == values


@pytest.mark.django_db(transaction=True)
def test_i9_a_process_that_knows_the_old_version_writes_under_the_new_one(values, put):
    keyring.load()
    assert processes.run(rotate_in_threes) == 0
    assert put("later").key_version == 2


def test_a_value_replaced_during_the_rotation_wins(values, monkeypatch):
    pk = next(iter(values))
    store = rotation._store

    def replace_first(fresh, key):
        if values[pk] != "the new value":
            services.replace(Secret.objects.get(pk=pk), SecretStr("the new value"), actor=OPERATOR)
            values[pk] = "the new value"
        return store(fresh, key)

    monkeypatch.setattr(rotation, "_store", replace_first)
    result = services.rotate()
    assert result.reencrypted == 6 and result.retired == (1,)
    assert read_all() == values and versions() == [2]


def test_a_secret_stored_under_the_old_version_behind_the_rotations_back_is_found_by_the_next_pass(values, monkeypatch):
    old = Secret.objects.values().first()
    reencrypt, passes = rotation._reencrypt, []

    def slip_in(key, size, on_progress):
        done = reencrypt(key, size, on_progress)
        if not passes:
            Secret.objects.filter(pk=old["id"]).update(**old)
        passes.append(done)
        return done

    monkeypatch.setattr(rotation, "_reencrypt", slip_in)
    assert services.rotate().retired == (1,)
    assert len(passes) == 2
    assert read_all() == values and versions() == [2]


@pytest.mark.django_db(transaction=True)
def test_reading_and_writing_goes_on_while_others_rotate(values, put):
    def act():
        for _ in range(2):
            services.rotate(batch=2)

    child = processes.start(act)
    turn = 0
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        turn += 1
        pk = list(values)[turn % 7]
        services.replace(Secret.objects.get(pk=pk), SecretStr(f"turn {turn}"), actor=OPERATOR)
        values[pk] = f"turn {turn}"
        if turn < 10:
            values[put(f"new in turn {turn}").pk] = f"new in turn {turn}"
        assert read_all() == values
        time.sleep(0.01)  # SQLite's waiting writers are not queued: leave the other a gap
    assert turn > 0 and ended == (child, 0)
    known = [key.version for key in keyring.load().keys]
    assert len(known) > 2 and known == list(range(1, len(known) + 1))
    services.rotate()
    assert read_all() == values and verify_chain().fault is None


def test_a_secret_that_does_not_open_is_named_and_stops_nothing_but_the_retirement(values):
    broken = Secret.objects.first()
    Secret.objects.filter(pk=broken.pk).update(ciphertext=broken.ciphertext[:-4] + "AAA=")
    result = services.rotate(batch=3)
    assert result.unreadable == (str(broken.public_id),)
    assert (result.reencrypted, result.retired) == (6, ())
    services.replace(broken, SecretStr("entered anew"), actor=OPERATOR)
    values[broken.pk] = "entered anew"
    result = services.rotate()
    assert (result.resumed, result.version, result.retired) == (True, 2, (1,))
    assert read_all() == values


def test_i10_a_key_that_is_needed_can_not_be_removed(values):
    with pytest.raises(Conflict) as error:
        services.remove_key(1)
    assert (error.value.type, error.value.details["secrets"]) == ("key_in_use", 7)
    services.rotate()
    laggard = Secret.objects.first()
    Secret.objects.filter(pk=laggard.pk).update(key_version=1)
    with pytest.raises(Conflict) as error:
        services.remove_key(1)
    assert (error.value.type, error.value.details["secrets"]) == ("key_in_use", 1)
    Secret.objects.filter(pk=laggard.pk).update(key_version=2)
    with pytest.raises(NotFound):
        services.remove_key(7)
    services.remove_key(1)
    assert [key.version for key in keyring.load().keys] == [2]
    assert read_all() == values
    assert AuditEntry.objects.get(action="key.remove").resource_name == "v1"
    with pytest.raises(Conflict):
        services.remove_key(2)


def test_i10_the_column_alone_does_not_decide_what_is_needed(values):
    Secret.objects.update(key_version=2)  # a row that lies about its ciphertext
    ring = keyring.load().appended("2030-01-01T00:00:00+00:00")
    keyring.save(ring)
    result = services.rotate()
    assert len(result.unreadable) == 7 and result.retired == ()
    with pytest.raises(Conflict) as error:
        services.remove_key(1)
    assert error.value.details["secrets"] == 7


@pytest.mark.django_db(transaction=True)
def test_i10_a_removal_killed_between_database_and_file_is_finished_by_the_next(values):
    services.rotate()
    assert processes.run(lambda: services.remove_key(1), "vault.remove.row=kill") == processes.KILLED
    services.verify_keyring()
    assert [key.version for key in keyring.load().keys] == [1, 2]
    services.remove_key(1)
    assert [key.version for key in keyring.load().keys] == [2]
    assert services.rotate().version == 3
    assert read_all() == values


def test_a_secret_that_came_back_under_a_retired_version_is_carried_over(values):
    old = Secret.objects.values().first()
    services.rotate()
    Secret.objects.filter(pk=old["id"]).update(**old)
    assert services.status()["unfinished"] is True and read_all() == values
    result = services.rotate()
    assert (result.resumed, result.version, result.reencrypted) == (True, 2, 1)
    assert read_all() == values


def test_a_rotation_of_an_empty_vault_works(vault):
    assert services.rotate().version == 2


def test_status_tells_versions_and_counts_and_no_key(values):
    services.rotate()
    status = services.status()
    assert [(row["version"], row["secrets"], row["mirrored"]) for row in status["versions"]] == [
        (1, 0, True),
        (2, 7, True),
    ]
    text = json.dumps(status)
    assert not any(key.secret.hex() in text or key.fingerprint in text for key in keyring.load().keys)
