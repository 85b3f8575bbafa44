"""HTTP timings: what is counted, where ``serve`` has it counted, and that the door is among it."""

from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client.exposition import generate_latest

from zcplatform import http_metrics, programs


def counted(route):
    text = generate_latest(http_metrics._registry).decode()
    found = re.findall(rf'seconds_count{{method="(\w+)",route="{re.escape(route)}",status="(\d+)"}} (\S+)', text)
    return {(method, status): float(value) for method, status, value in found}


def test_the_door_counts_at_the_head_of_its_answer_and_once():
    sent, before = [], counted("door").get(("POST", "200"), 0)

    async def send(message):
        sent.append(message["type"])

    async def answer():
        sending = http_metrics.timed("POST", send, http_metrics.DOOR)
        await sending({"type": "http.response.start", "status": 200})
        assert counted("door")["POST", "200"] == before + 1
        for _ in range(3):
            await sending({"type": "http.response.body", "body": b"x", "more_body": True})

    asyncio.run(answer())
    assert counted("door")["POST", "200"] == before + 1
    assert sent == ["http.response.start"] + ["http.response.body"] * 3


@pytest.mark.django_db
def test_a_request_to_a_tenants_address_goes_through_it():
    from zcplatform.asgi import application

    before = sum(counted("door").values())
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/t/nobody/v1/models",
        "raw_path": b"/t/nobody/v1/models",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }
    asyncio.run(application(scope, receive, send))
    assert sent[0]["type"] == "http.response.start"
    assert sum(counted("door").values()) == before + 1


def test_serve_has_every_web_process_write_into_one_folder_that_it_empties(settings, tmp_path):
    settings.HOME = tmp_path
    program = programs.web("127.0.0.1", 8080)
    assert program.env[http_metrics.VARIABLE] == str(tmp_path / "run" / "metrics")
    (tmp_path / "run").mkdir()
    program.prepare()
    folder = tmp_path / "run" / "metrics"
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "histogram_1.db").write_bytes(b"old")
    program.prepare()
    assert list(folder.iterdir()) == []
