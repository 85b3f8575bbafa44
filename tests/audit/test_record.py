from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import User
from audit.actions import ACTIONS
from audit.models import AuditEntry
from audit.services import MAX_DETAIL, AuditError, Target, record, verify_chain
from tests import processes
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, SYSTEM, Actor
from zcplatform.lib.redact import SecretStr, handle, handling, remember

ANA = Actor(
    label="ana@example.org", user_id=7, public_id="u-7", email="ana@example.org", ip="192.0.2.1", request_id="r-1"
)


def note(action="tenant.create", **more):
    with transaction.atomic():
        return record(action, **({"actor": ANA} | more))


def test_a_row_tells_who_did_what_to_whom_and_from_where(db):
    entry = note(target=Target("tenant", "t-1", "Acme"), tenant="t-1", detail={"plan": "free"})
    entry.refresh_from_db()
    assert (entry.actor_id, entry.actor_email, entry.ip_address, entry.request_id) == (
        "u-7",
        "ana@example.org",
        "192.0.2.1",
        "r-1",
    )
    assert (entry.action, entry.outcome, entry.tenant_id) == ("tenant.create", "ok", "t-1")
    assert (entry.resource_type, entry.resource_id, entry.resource_name) == ("tenant", "t-1", "Acme")
    assert entry.detail_json == '{"plan":"free"}'
    assert verify_chain().fault is None


def test_the_platform_and_an_operator_are_named(db):
    assert note(actor=SYSTEM).actor_id == "system"
    assert note(actor=OPERATOR).actor_id == "operator"
    assert note(actor=SYSTEM).detail_json == "{}"


def test_an_api_key_of_a_user_is_told_apart_from_the_user(db):
    key = Actor(label="key ci of ana", user_id=7, public_id="u-7", email="ana@example.org")
    assert json.loads(note(actor=key).detail_json) == {"by": "key ci of ana"}


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_it_is_refused():
    with pytest.raises(AuditError) as error:
        record("tenant.create", actor=ANA)
    assert error.value.type == "audit_outside_transaction"
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "type"),
    [({"action": "tenant.tickle"}, "audit_unknown_action"), ({"outcome": "maybe"}, "audit_unknown_outcome")],
)
def test_an_unregistered_action_or_outcome_is_refused(db, arguments, type):
    with pytest.raises(AuditError) as error:
        note(**arguments)
    assert error.value.type == type


def test_every_action_is_noun_dot_verb_and_fits_its_column():
    for action, text in ACTIONS.items():
        noun, verb = action.split(".")
        assert noun.isidentifier() and verb.isidentifier() and text
        assert len(action) <= AuditEntry._meta.get_field("action").max_length


def test_j1_update_and_delete_are_refused_by_the_orm_and_by_raw_sql(db):
    entry = note()
    attempts = [
        lambda: AuditEntry.objects.update(action="x"),
        lambda: AuditEntry.objects.all().delete(),
        lambda: entry.delete(),
        lambda: entry.save(),
        lambda: connection.cursor().execute("UPDATE audit_log SET actor_email = ''"),
        lambda: connection.cursor().execute("DELETE FROM audit_log"),
    ]
    if connection.vendor == "postgresql":
        attempts.append(lambda: connection.cursor().execute("TRUNCATE audit_log"))
    for attempt in attempts:
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert AuditEntry.objects.get().action == "tenant.create"


@pytest.mark.sqlite
@pytest.mark.parametrize("unique", ["id", "hash"])
def test_j1_insert_or_replace_is_refused_too(db, unique):
    entry = note()
    values = {field.attname: getattr(entry, field.attname) for field in AuditEntry._meta.fields}
    values |= {"id": 9, "hash": "0" * 64, "action": "login.success"} | {unique: values[unique]}
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        connection.cursor().execute(f"INSERT OR REPLACE INTO audit_log ({names}) VALUES ({marks})", [*values.values()])
    assert AuditEntry.objects.get().action == "tenant.create"


@pytest.mark.parametrize(
    ("statements", "row", "kind"),
    [
        (["UPDATE audit_log SET actor_email = 'x' WHERE id = 3"], 3, "altered"),
        (["UPDATE audit_log SET created_at = '2001-01-01 00:00:00' WHERE id = 3"], 3, "altered"),
        (["DELETE FROM audit_log WHERE id = 3"], 3, "removed"),
        (["DELETE FROM audit_log WHERE id < 3"], 1, "removed"),
        (
            [f"UPDATE audit_log SET id = {new} WHERE id = {old}" for old, new in ((3, 9), (4, 3), (9, 4))],
            3,
            "reordered",
        ),
    ],
)
def test_j2_what_is_done_past_the_triggers_is_found(db, raw, statements, row, kind):
    for number in range(5):
        note(detail={"n": number})
    assert verify_chain().fault is None
    raw(*statements)
    fault = verify_chain().fault
    assert (fault.row, fault.kind) == (row, kind)


def test_j2_a_cut_tail_is_found_by_an_expected_head(db, raw):
    for _ in range(5):
        note()
    head = verify_chain().head
    raw("DELETE FROM audit_log WHERE id > 3")
    assert verify_chain().fault is None
    assert verify_chain(head).fault.kind == "cut"
    note()
    note()
    assert verify_chain(head).fault.row == 5, "new rows in the place of the cut ones do not help"


FORGED = "a\nlogin.success ok\r\x1b[2K\u202egnp\u2028\u0000\ud800"


def test_j3_line_breaks_escape_codes_and_bidi_marks_are_spelled_out(db):
    actor = Actor(label="x", email=FORGED, ip=FORGED, request_id=FORGED)
    entry = note(actor=actor, target=Target("tenant", FORGED, FORGED), tenant=FORGED, detail={FORGED: [FORGED]})
    entry.refresh_from_db()
    stored = "".join(str(getattr(entry, field.attname)) for field in AuditEntry._meta.fields)
    assert stored.isprintable()
    assert json.loads(entry.detail_json)[FORGED] == [FORGED]
    assert verify_chain().fault is None


def test_j3_ordinary_letters_of_any_script_stay_as_they_are(db):
    assert note(target=Target("tenant", "1", "Müller 株式会社")).resource_name == "Müller 株式会社"


def test_j3_a_megabyte_is_cut_to_four_kilobytes_and_the_whole_is_limited(db):
    text = "ü" * 1_000_000
    entry = note(target=Target("tenant", text, text), actor=Actor(label=text, ip=text), detail={"text": text})
    entry.refresh_from_db()
    detail = json.loads(entry.detail_json)
    assert 4_000 < len(detail["text"].encode()) <= 4_096 and detail["text"].endswith("…")
    assert len(entry.resource_name) == 200 and len(entry.ip_address) == 45
    wide = json.loads(note(detail={"list": list(range(100_000))}).detail_json)["list"]
    assert len(wide) == 201 and wide[-1] == "… and 99800 more"
    big = note(detail={str(n): text[:5_000] for n in range(100)})
    assert len(big.detail_json) <= MAX_DETAIL and json.loads(big.detail_json)["truncated_bytes"] > MAX_DETAIL
    assert verify_chain().fault is None


def test_numbers_that_json_lacks_do_not_stop_the_change(db):
    assert json.loads(note(detail={"cpu": float("nan"), "mem": 1.5}).detail_json) == {"cpu": "nan", "mem": 1.5}


@pytest.mark.django_db(transaction=True)
def test_j4_a_change_whose_audit_row_fails_is_undone(refuse_audit):
    with pytest.raises(DatabaseError), transaction.atomic():
        User.objects.create_user("new@example.org")
        record("user.create", actor=ANA)
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_j4_even_when_the_caller_swallows_the_error(refuse_audit):
    with transaction.atomic():
        User.objects.create_user("new@example.org")
        with suppress(DatabaseError):
            record("user.create", actor=ANA)
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_j4_and_even_when_the_row_was_refused_before_the_database_saw_it():
    with transaction.atomic():
        User.objects.create_user("new@example.org")
        with suppress(AuditError):
            record("user.tickle", actor=ANA)
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_j4_a_change_that_fails_leaves_no_row():
    with pytest.raises(RuntimeError), transaction.atomic():
        record("user.create", actor=ANA)
        raise RuntimeError
    assert not AuditEntry.objects.exists()


def test_j5_secrets_are_masked_by_name_and_by_type_and_the_platforms_own_by_value(db):
    canary = "canary-" + "x" * 20
    remember(canary)
    detail = {
        "before": {"bot_token": "1234:abc", "model": "m"},
        "after": {"bot_token": SecretStr("5678:def"), "note": f"it is {canary}!"},
        "apiKey": "k",
    }
    entry = note(detail=detail, target=Target("channel", "1", f"named {canary}"))
    entry.refresh_from_db()
    stored = "".join(str(getattr(entry, field.attname)) for field in AuditEntry._meta.fields)
    for leak in (canary, "1234:abc", "5678:def"):
        assert leak not in stored
    assert json.loads(entry.detail_json)["before"] == {"bot_token": "***", "model": "m"}


def test_j5_a_word_that_somebody_calls_a_secret_does_not_disappear_from_the_audit(db):
    word = SecretStr("deprovision-everything")
    with handling():
        handle(word)
        entry = note(detail={"note": f"argv {word.reveal()}"}, target=Target("channel", "1", f"named {word.reveal()}"))
    assert word.reveal() in entry.detail_json and word.reveal() in entry.resource_name


def test_j5_a_secret_is_masked_before_the_text_is_cut(db):
    canary = "canary-" + "y" * 20
    remember(canary)
    stored = note(detail={"text": "a" * 4_085 + canary}).detail_json
    assert "canary" not in stored


def test_j7_a_deleted_user_stays_in_the_audit(db):
    user = User.objects.create_user("gone@example.org")
    known = str(user.public_id)
    entry = note(actor=user.as_actor())
    user.delete()
    entry.refresh_from_db()
    assert (entry.actor_email, entry.actor_id) == ("gone@example.org", known)
    assert verify_chain().fault is None


@pytest.mark.django_db(transaction=True)
def test_processes_and_rollbacks_at_once_leave_one_unbroken_chain():
    def write(number: int):
        def act():
            for turn in range(40):
                with suppress(LookupError), transaction.atomic():
                    record("tenant.create", actor=ANA, detail={"process": number, "turn": turn})
                    if turn % 5 == 4:
                        raise LookupError

        return act

    children = [processes.start(write(number)) for number in range(4)]
    assert [processes.wait(child) for child in children] == [0, 0, 0, 0]
    verdict = verify_chain()
    assert (verdict.count, verdict.fault) == (4 * 32, None)


@pytest.mark.django_db(transaction=True)
def test_a_writer_killed_in_the_middle_leaves_no_half_row():
    def act():
        with transaction.atomic():
            record("tenant.create", actor=ANA)
            os.kill(os.getpid(), signal.SIGKILL)

    note()
    assert processes.run(act) == processes.KILLED
    note()
    assert (verify_chain().count, verify_chain().fault) == (2, None)


def test_the_time_is_the_platforms_clock(db):
    moment = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    with clock.use(lambda: moment):
        entry = note()
    entry.refresh_from_db()
    assert entry.created_at == moment
