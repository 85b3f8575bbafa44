"""What passes the door is written down in batches: none lost, none twice, and nobody waits for long."""

from __future__ import annotations

import asyncio

import pytest
from django.db import IntegrityError, OperationalError

from tenants import door_tally, usage
from tenants.door_tally import Tally


@pytest.fixture
def written(monkeypatch):
    """Instead of the database: what is handed over, and ``faults`` to raise first."""

    class Written(list):
        def __init__(self):
            super().__init__()
            self.faults = []

    rows = Written()

    def add_passed(source, batch):
        if rows.faults:
            raise rows.faults.pop()
        rows.append((source, {key: dict(counts) for key, counts in batch.items()}))

    async def in_database(query):
        await asyncio.sleep(0.001)
        return query()

    monkeypatch.setattr(usage, "add_passed", add_passed)
    monkeypatch.setattr(door_tally, "in_database", in_database)
    monkeypatch.setattr(door_tally, "RETRY_S", 0.01)
    return rows


def total(rows):
    return sum(counts.get("messages_in", 0) for _, batch in rows for counts in batch.values())


def run(work):
    async def all_of_it():
        tally = Tally()
        await work(tally)
        await tally.aclose()

    asyncio.run(all_of_it())


def test_what_is_counted_is_written_when_that_returns(written):
    async def work(tally):
        tally.count(7, messages_in=1)
        await tally.written()
        assert written == [("door", {7: {"messages_in": 1}})]

    run(work)


def test_many_at_once_are_a_few_writes(written):
    async def work(tally):
        async def chat(number):
            tally.count(number % 3, messages_in=1)
            await tally.written()

        await asyncio.gather(*(chat(number) for number in range(300)))
        assert total(written) == 300

    run(work)
    assert len(written) <= 3


def test_while_the_database_is_away_they_wait_and_none_is_lost(written):
    written.faults = [OperationalError("database is locked")] * 5

    async def work(tally):
        for _ in range(4):
            tally.count(7, messages_in=1)
            await tally.written(0.01)

    run(work)
    assert total(written) == 4


def test_what_the_database_refuses_ends_no_chat_and_blocks_no_other(written):
    written.faults = [IntegrityError("no such tenant")]

    async def work(tally):
        for tenant in (7, 8):
            tally.count(tenant, messages_in=1)
            await tally.written()

    run(work)
    assert written == [("door", {8: {"messages_in": 1}})]


def test_a_chat_that_is_broken_off_while_it_waits_is_counted(written):
    async def work(tally):
        tally.count(7, messages_in=1)
        chat = asyncio.create_task(tally.written())
        await asyncio.sleep(0)
        chat.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chat

    run(work)
    assert total(written) == 1
