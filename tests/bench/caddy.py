"""What a route costs among 0, 100 and 1,000: ours (read, compare, write, read back), and Caddy's own share of it."""

from __future__ import annotations

from time import perf_counter

import httpx
from django.conf import settings
from django.test import override_settings

from tenants.routing.base import Route
from tenants.routing.caddy import CaddyRouter, current_site
from tenants.routing.caddy_config import build_server
from tests import counterparts
from tests.bench import Row, Skipped, median_ms, size
from tests.caddy import RealCaddy, make_route, real_caddy

TRIES = size(5, 1)
BATCH = size(100, 10)
AMONG = size((0, 100, 1_000), (0, 100))
ALONE = {0: "", 100: "", 1_000: "≤ 250 ms"}
BATCHED = {0: "", 100: "", 1_000: "≤ 30 ms"}


def run() -> list[Row]:
    if reason := counterparts.missing("caddy"):
        raise Skipped(reason)
    with override_settings(), real_caddy(settings) as caddy:
        return [row for base in AMONG for row in _among(caddy, base)]


def _among(caddy: RealCaddy, base: int) -> list[Row]:
    there = [make_route(f"t-{number}", 20_000 + number) for number in range(base)]
    more = [make_route(f"new-{number}", 30_000 + number) for number in range(BATCH)]
    one, batch = _ours(there, more[:1]), _ours(there, more)
    own = _caddys(caddy, there, more[:1])
    peer = f"Caddy's own {own:.1f} ms (×{one / own:.2f})"
    return [
        Row(f"one route among {base}", f"{one:.1f} ms", ALONE[base], peer),
        Row(f"{BATCH} at once among {base}, each", f"{batch / BATCH:.2f} ms", BATCHED[base], f"{batch:.1f} ms for all"),
    ]


def _ours(there: list[Route], more: list[Route]) -> float:
    router, times = CaddyRouter(), []
    for _ in range(TRIES):
        router.sync(lambda: there)
        began = perf_counter()
        router.sync(lambda: [*there, *more])
        times.append(perf_counter() - began)
    return median_ms(times)


def _caddys(caddy: RealCaddy, there: list[Route], more: list[Route]) -> float:
    """The bare PATCH of the same configuration."""
    site, times = current_site(), []
    path, wanted = f"/config/apps/http/servers/{site.server_name}", build_server(site, [*there, *more])
    for _ in range(TRIES):
        CaddyRouter().sync(lambda: there)
        transport = httpx.HTTPTransport(uds=str(caddy.socket), verify=False)
        with httpx.Client(transport=transport, base_url="http://caddy", timeout=20) as client:
            began = perf_counter()
            client.patch(path, json=wanted).raise_for_status()
            times.append(perf_counter() - began)
    return median_ms(times)
