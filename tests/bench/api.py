"""The JSON API under 1,000 tenants, over HTTP from two real web processes: how long lists take, and 200 writes a second
offered for a minute, whether they are kept up with or not."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from time import perf_counter, sleep
from typing import Any

import aiohttp
import httpx
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import api_keys
from tenants.models import AgentConfig, Tenant
from tests.bench import Row
from tests.caddy import free_port
from tests.factories import NodeFactory, PlanFactory, UserFactory
from zcplatform.lib.actors import OPERATOR

TENANTS, PAGES = 1_000, 200
RATE, SECONDS = 200, 60
PATIENCE_S = 30


def run() -> list[Row]:
    call_command("migrate", verbosity=0)
    key, ids = _fleet()
    few, many = _queries(key, 10), _queries(key, 200)
    port = free_port()
    web = _web(port)
    try:
        base = f"http://127.0.0.1:{port}/api"
        page, all_pages = _lists(base, key)
        answers, times, took = asyncio.run(_writes(base, key, ids))
    finally:
        web.terminate()
        web.wait(PATIENCE_S)
    done, busy = answers["200"], _locked(answers)
    return [
        Row(f"page of 200 of {TENANTS} tenants, p95", f"{_p95_ms(page):.1f} ms", "≤ 100 ms"),
        Row(f"all {TENANTS} in 5 pages, p95", f"{_p95_ms(all_pages):.1f} ms"),
        Row("queries for a page of 10, of 200", f"{few}, {many}: {'constant' if few == many else 'GROWS'}", "constant"),
        Row(f"{RATE} writes/s for {SECONDS} s: offered, answered", f"{RATE * SECONDS}, {answers.total()}", "equal"),
        Row("  done, over the time until the last answer", f"{done / took:.0f}/s", f"{RATE}/s"),
        Row("  p50, p95", f"{_at_ms(times, 0.5):.0f} ms, {_p95_ms(times):.0f} ms"),
        Row("  “database is locked”", str(busy), "0"),
        Row("  answers", ", ".join(f"{kind}: {count}" for kind, count in sorted(answers.items()))),
    ]


def _fleet() -> tuple[str, list[str]]:
    plan, node = PlanFactory(), NodeFactory()
    rows = [
        Tenant(slug=f"t{number}", name=f"Tenant {number}", plan=plan, node=node, agent_kind="demo")
        for number in range(TENANTS)
    ]
    made = Tenant.objects.bulk_create(rows)
    AgentConfig.objects.bulk_create([AgentConfig(tenant=tenant) for tenant in made])
    user = UserFactory(email="bench@example.test", is_superuser=True)
    key = api_keys.create(user, actor=OPERATOR, name="bench", scopes=["admin"])[1].reveal()
    return key, [str(tenant.public_id) for tenant in made]


def _queries(key: str, limit: int) -> int:
    settings.ALLOWED_HOSTS = ["testserver", *settings.ALLOWED_HOSTS]
    client = Client(headers={"authorization": f"Bearer {key}"})
    client.get("/api/plans")
    with CaptureQueriesContext(connection) as made:
        assert client.get(f"/api/tenants?limit={limit}").status_code == 200
    return len(made)


def _web(port: int) -> subprocess.Popen[bytes]:
    """Two web processes as ``serve`` runs them, on the bench's own database."""
    argv = [sys.executable, "-m", "gunicorn", "--config", "python:zcplatform.gunicorn_conf", "--workers", "2"]
    env = {**os.environ, "ZCPLATFORM_API_REQUESTS_PER_MINUTE": "10000000", "ZCPLATFORM_LOG_LEVEL": "error"}
    web = subprocess.Popen(
        [*argv, "--log-level", "error", "--bind", f"127.0.0.1:{port}", "zcplatform.asgi:application"], env=env
    )
    until = perf_counter() + PATIENCE_S
    while perf_counter() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                return web
        except httpx.HTTPError:
            sleep(0.1)
    web.kill()
    raise RuntimeError("The web processes did not begin to answer.")


def _lists(base: str, key: str) -> tuple[list[float], list[float]]:
    """Seconds for single pages, and for the whole list."""
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S) as client:
        pages, wholes = [], []
        for _ in range(PAGES // 5):
            began, cursor = perf_counter(), ""
            while cursor is not None:
                start = perf_counter()
                answer = client.get(f"{base}/tenants?limit=200{cursor and f'&cursor={cursor}'}")
                pages.append(perf_counter() - start)
                cursor = answer.raise_for_status().json()["next_cursor"]
            wholes.append(perf_counter() - began)
    return pages, wholes


async def _writes(base: str, key: str, ids: list[str]) -> tuple[Counter[str], list[float], float]:
    """Renames, offered at ``RATE`` however fast the answers come: each is the row, an event
    and a link of the audit's chain."""
    answers: Counter[str] = Counter()
    times: list[float] = []
    chosen, began = random.Random(1), perf_counter()
    limit = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=256)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=limit) as session:

        async def write(number: int) -> None:
            await asyncio.sleep(max(0.0, began + number / RATE - perf_counter()))
            start = perf_counter()
            try:
                url = f"{base}/tenants/{chosen.choice(ids)}"
                async with session.patch(url, json={"name": f"Name {number}"}) as response:
                    body = await response.json()
                    answers[str(response.status) if response.ok else f"{response.status} {_type(body)}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                answers[type(error).__name__] += 1
            times.append(perf_counter() - start)

        await asyncio.gather(*(write(number) for number in range(RATE * SECONDS)))
    return answers, times, perf_counter() - began


def _type(body: Any) -> str:
    return str(body["error"]["type"]) if isinstance(body, dict) and "error" in body else "?"


def _locked(answers: Counter[str]) -> int:
    """What the API says when the database was locked for too long."""
    return sum(count for kind, count in answers.items() if "database" in kind)


def _at_ms(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)] * 1_000


def _p95_ms(times: list[float]) -> float:
    return _at_ms(times, 0.95)
