"""The pure part: what each kind of tampering is called, and which row is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from audit.chain import COVERED, GENESIS, Head, digest, verify

START = datetime(2030, 1, 1, tzinfo=UTC)


def make(count: int, previous: str = GENESIS, first: int = 1, action: str = "tenant.create") -> list[dict]:
    rows = []
    for number in range(first, first + count):
        row = dict.fromkeys(COVERED, "") | {"created_at": START, "action": action, "detail_json": "{}"}
        row |= {"id": number, "resource_id": str(number), "previous_hash": previous}
        previous = row["hash"] = digest(row)
        rows.append(row)
    return rows


def renumber(rows: list[dict]) -> list[dict]:
    for number, row in enumerate(rows, 1):
        row["id"] = number
    return rows


def check(rows: list[dict], head: Head | None = None):
    return verify(lambda: iter(rows), head)


def test_an_intact_chain_has_no_fault_and_tells_its_head():
    rows = make(5)
    verdict = check(rows)
    assert (verdict.count, verdict.fault) == (5, None)
    assert verdict.head == Head(5, rows[-1]["hash"])


def test_an_empty_chain_is_intact():
    assert check([]).head == Head(0, GENESIS)


@pytest.mark.parametrize("column", COVERED)
def test_an_edited_column_is_named(column):
    rows = make(5)
    rows[2][column] = START + timedelta(microseconds=1) if column == "created_at" else "other"
    fault = check(rows).fault
    assert (fault.row, fault.kind) == (3, "altered")


def test_an_edit_with_a_hash_made_to_fit_breaks_the_link_behind_it():
    rows = make(5)
    rows[2]["action"] = "tenant.delete"
    rows[2]["hash"] = digest(rows[2])
    fault = check(rows).fault
    assert fault.row == 4 and "row 3 was rewritten" in fault.message


@pytest.mark.parametrize("renumbered", [False, True])
@pytest.mark.parametrize("first_gone", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2])
def test_removed_rows_are_named(first_gone, count, renumbered):
    rows = make(6)
    del rows[first_gone - 1 : first_gone - 1 + count]
    if renumbered:
        renumber(rows)
    if first_gone - 1 == len(rows):
        pytest.skip("that is the tail")
    fault = check(rows).fault
    assert (fault.row, fault.kind) == (first_gone, "removed")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("linked", [False, True])
def test_inserted_rows_are_named(count, linked):
    rows = make(6)
    forged = make(count, previous=rows[2]["hash"] if linked else "f" * 64, action="login.success")
    fault = check(renumber(rows[:3] + forged + rows[3:])).fault
    assert (fault.row, fault.kind) == (4, "inserted")


def test_swapped_rows_are_named():
    rows = make(6)
    rows[2], rows[3] = rows[3], rows[2]
    fault = check(renumber(rows)).fault
    assert (fault.row, fault.kind) == (3, "reordered")


def test_renumbered_rows_are_named():
    rows = make(4)
    for row in rows[2:]:
        row["id"] += 10
    assert check(rows).fault.row == 13


def test_a_cut_tail_is_found_by_a_head_kept_elsewhere_and_only_by_it():
    rows = make(6)
    head = Head(6, rows[-1]["hash"])
    assert check(rows[:4]).fault is None
    fault = check(rows[:4], head).fault
    assert (fault.row, fault.kind) == (5, "cut")
    assert check(rows, head).fault is None
    assert check(make(9), head).fault is None, "rows that came later are fine"


def test_a_tail_cut_and_written_anew_is_found():
    rows = make(6)
    head = Head(6, rows[-1]["hash"])
    forged = rows[:4] + make(4, previous=rows[3]["hash"], first=5, action="login.success")
    assert check(forged).fault is None
    fault = check(forged, head).fault
    assert (fault.row, fault.kind) == (6, "altered")


def test_the_time_zone_of_a_connection_does_not_change_the_hash():
    row = make(1)[0]
    row["created_at"] = START.astimezone(timezone(timedelta(hours=5)))
    assert digest(row) == row["hash"]


def test_columns_can_not_be_shifted_into_each_other():
    one, two = make(1)[0], make(1)[0]
    one |= {"actor_id": "ab", "actor_email": "c"}
    two |= {"actor_id": "a", "actor_email": "bc"}
    assert digest(one) != digest(two)


def test_a_long_chain_is_read_as_a_stream():
    def rows():
        previous = GENESIS
        for number in range(1, 5_001):
            row = make(1, previous, number)[0]
            previous = row["hash"]
            yield row
            row.clear()  # a reader that keeps earlier rows would stumble

    assert verify(rows).count == 5_000


@pytest.mark.parametrize("text", ["", "5", "5:", "x:" + "0" * 64, "5:" + "0" * 63, "5:" + "g" * 64, "-1:" + "0" * 64])
def test_a_malformed_head_is_refused(text):
    with pytest.raises(ValueError, match="ID:HASH"):
        Head.parse(text)


def test_a_head_survives_being_printed():
    head = Head(7, "ab" * 32)
    assert Head.parse(f" {head}\n") == head
