from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from audit.services import record, verify_chain
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def rows(db):
    for _ in range(3):
        with transaction.atomic():
            record("tenant.create", actor=OPERATOR)


def run(*arguments: str) -> tuple[str, CommandError | None]:
    out = StringIO()
    try:
        call_command("audit_verify", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), error
    return out.getvalue(), None


def test_it_prints_the_count_and_the_head(rows):
    out, error = run()
    assert error is None
    assert out == f"3 rows intact, head {verify_chain().head}\n"


def test_it_names_the_first_bad_row_and_exits_with_1(rows, raw):
    raw("UPDATE audit_log SET outcome = 'denied' WHERE id >= 2")
    out, error = run("--json")
    assert error.returncode == 1 and "row 2 was altered" in str(error)
    report = json.loads(out)
    assert (report["ok"], report["count"], report["fault"]["row"], report["fault"]["kind"]) == (False, 1, 2, "altered")


def test_a_head_kept_elsewhere_finds_a_cut_tail(rows, raw):
    head = json.loads(run("--json")[0])["head"]
    assert run("--head", head)[1] is None
    raw("DELETE FROM audit_log WHERE id = 3")
    assert run()[1] is None
    assert "cut" in str(run("--head", head)[1])


def test_a_malformed_head_is_an_argument_error(rows):
    assert "ID:HASH" in str(run("--head", "nonsense")[1])
