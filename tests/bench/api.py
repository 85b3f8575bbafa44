"""The JSON API under 1,000 tenants, over HTTP from two real web processes: how long lists take, how many writes a
second can be done, and what becomes of five times as many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from time import perf_counter, sleep

import httpx
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import api_keys
from tenants.models import AgentConfig, Tenant
from tests.bench import Row, size
from tests.bench.offer import Offered
from tests.caddy import free_port
from tests.factories import NodeFactory, PlanFactory, UserFactory
from zcplatform.lib.actors import OPERATOR

TENANTS, PAGES = size((1_000, 200), (60, 10))
SECONDS, PROBE_S = size((60, 10), (2, 1))
FIRST_RATE, FINE, OVERLOAD = *size((40.0, 1.08), (80.0, 2.0)), 5
P95_S, SHED_S, GOODPUT = 2.0, 1.0, 0.8
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
        writes = _Writes(base, key, ids)
        sustained = writes.sustainable()
        flood = writes.offer(sustained.rate * OVERLOAD, SECONDS)
    finally:
        web.terminate()
        web.wait(PATIENCE_S)
    return [
        Row(f"page of 200 of {TENANTS} tenants, p95", f"{_p95_ms(page):.1f} ms", "≤ 100 ms"),
        Row(f"all {TENANTS} in 5 pages, p95", f"{_p95_ms(all_pages):.1f} ms"),
        Row("queries for a page of 10, of 200", f"{few}, {many}: {'constant' if few == many else 'GROWS'}", "constant"),
        Row(f"writes/s with p95 ≤ {P95_S:.0f} s and no error for {SECONDS} s", f"{sustained.rate:.0f}/s", "aim 150/s"),
        Row("  p50, p95 of them", f"{_at_ms(sustained.done, 0.5):.0f} ms, {_p95_ms(sustained.done):.0f} ms"),
        *_overload(flood, best=max(writes.best, flood.goodput)),
        Row("  generator's CPU: sustained, overload", f"{_busy(sustained)}, {_busy(flood)} of its core"),
    ]


def _overload(flood: Offered, best: float) -> list[Row]:
    share = f"{flood.goodput:.0f}/s, {flood.goodput / best:.0%}"
    return [
        Row(f"{OVERLOAD} x that for {SECONDS} s: offered, done, shed", _counts(flood)),
        Row("  goodput, of the best in this run", share, f"≥ {GOODPUT:.0%}"),
        Row("  p95 of what was done", f"{_p95_ms(flood.done):.0f} ms", f"≤ {P95_S * 1_000:.0f} ms"),
        Row("  p95, longest of what was shed", _longest(flood.shed), f"≤ {SHED_S * 1_000:.0f} ms"),
        Row("  neither done nor shed", _failures(flood), "none"),
    ]


class _Writes:
    """Offers writes to the web at ``base``, and remembers the best that it did."""

    def __init__(self, base: str, key: str, ids: list[str]) -> None:
        self._target = {"base": base, "key": key, "ids": ids}
        self.best = 0.0

    def offer(self, rate: float, seconds: float) -> Offered:
        asked = json.dumps({**self._target, "rate": rate, "seconds": seconds})
        argv = [sys.executable, "-m", "tests.bench.offer"]
        told = subprocess.run(argv, input=asked, capture_output=True, text=True, check=True, timeout=seconds + 180)
        offered = Offered(**json.loads(told.stdout))
        self.best = max(self.best, offered.goodput)
        return offered

    def sustainable(self) -> Offered:
        """The highest rate that is kept up with, found by short probes and confirmed over the whole time."""
        low, high = 0.0, FIRST_RATE
        while _is_kept_up_with(self.offer(high, PROBE_S)):
            low, high = high, high * 1.5
        low = low or high / 8
        while high / low > FINE:
            middle = (low + high) / 2
            low, high = (middle, high) if _is_kept_up_with(self.offer(middle, PROBE_S)) else (low, middle)
        while not _is_kept_up_with(confirmed := self.offer(low, SECONDS)):
            low /= FINE
        return confirmed


def _is_kept_up_with(offered: Offered) -> bool:
    return bool(offered.done) and not offered.shed and not offered.failed and _p95_ms(offered.done) <= P95_S * 1_000


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


def _counts(offered: Offered) -> str:
    return f"{int(offered.rate * offered.seconds)}, {len(offered.done)}, {len(offered.shed)}"


def _longest(times: list[float]) -> str:
    return f"{_p95_ms(times):.0f} ms, {max(times) * 1_000:.0f} ms" if times else "nothing was shed"


def _failures(offered: Offered) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in sorted(offered.failed.items())) or "none"


def _busy(offered: Offered) -> str:
    return f"{offered.cpu / offered.took:.0%}"


def _at_ms(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)] * 1_000


def _p95_ms(times: list[float]) -> float:
    return _at_ms(times, 0.95)
