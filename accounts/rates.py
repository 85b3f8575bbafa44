"""How often somebody may do something: moving windows in the database, or in Redis, so that all processes share them.

In the database a window is one row: what was let through, each with its time. It survives a restart. Waiting for the
database's one write lock would be too much for a GET, so the API's own limit takes permits from the window by the block
and hands them out from memory: one write for ``BLOCK`` requests. Permits not handed out within 10 s lapse, so the limit
is never exceeded, and undershot by at most a block per process.

With ``ZCPLATFORM_REDIS_URL`` the windows are lists in Redis instead. Where it does not answer nothing is let through:
whoever could make it silent could otherwise guess without end.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.errors import StorageError
from limits.storage import MovingWindowSupport, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter
from limits.util import WindowStats

from accounts.models import RateWindow
from zcplatform.lib import clock
from zcplatform.lib.errors import DependencyDown, RateLimited
from zcplatform.lib.redact import scrub

REDIS_LIMIT_S = 2.0
"""For connecting to Redis, and for each of its answers."""
PROBE = "1/second"
BLOCK = 20
PERMITS_LAST_S = 10.0
MAX_CALLERS = 10_000  # whose permits are kept in memory


class DatabaseStorage(Storage, MovingWindowSupport):
    """What ``limits`` asks of a store, on ``RateWindow``. Only moving windows are kept."""

    STORAGE_SCHEME = None

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` when it fits into the window. Callers of one key take turns, also across processes."""
        with transaction.atomic():
            row, now = _locked(key), clock.now().timestamp()
            hits = _within(row.hits, now, expiry)
            if sum(number for _, number in hits) + amount > limit:
                return False
            row.hits = [*hits, [now, amount]]
            row.expires_at = datetime.fromtimestamp(now + expiry, UTC)
            row.save(update_fields=["hits", "expires_at"])
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest counted hit was (now, if there is none), and how many there are."""
        now = clock.now().timestamp()
        stored = RateWindow.objects.filter(key=key).values_list("hits", flat=True).first()
        hits = _within(stored or [], now, expiry)
        return (hits[0][0] if hits else now), sum(number for _, number in hits)

    def clear(self, key: str) -> None:
        """Forget the window."""
        RateWindow.objects.filter(key=key).delete()

    def reset(self) -> int | None:
        """Forget all windows; how many they were."""
        return RateWindow.objects.all().delete()[0]

    def check(self) -> bool:
        """The database is looked after elsewhere."""
        return True

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("Fixed windows are not kept.")

    def get(self, key: str) -> int:
        raise NotImplementedError("Fixed windows are not kept.")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("Fixed windows are not kept.")


@dataclass(frozen=True)
class Rate:
    """What the answer's headers tell: requests per minute, how many are left, seconds until more are."""

    limit: int
    remaining: int
    reset_s: int


class Permits:
    """The permits of this process, by caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, float, Rate]] = {}

    def take(self, key: str) -> Rate:
        """One permit. RateLimited when the window is full."""
        limit = RateLimitItemPerMinute(settings.API_REQUESTS_PER_MINUTE)
        with self._lock:
            number, until, rate = self._held.get(key, (0, 0.0, None))
            if rate is not None and number > 0 and time.monotonic() < until and rate.limit == limit.amount:
                self._held[key] = (number - 1, until, rate)
                return Rate(rate.limit, rate.remaining + number - 1, rate.reset_s)
        number, rate = _block(limit, key)
        with self._lock:
            if len(self._held) >= MAX_CALLERS:
                self._held.clear()
            self._held[key] = (number - 1, time.monotonic() + PERMITS_LAST_S, rate)
        return Rate(rate.limit, rate.remaining + number - 1, rate.reset_s)

    def clear(self) -> None:
        """Forget the permits, so that the next caller asks the window; for tests."""
        with self._lock:
            self._held.clear()


def limiter_on(redis_url: str) -> MovingWindowRateLimiter:
    """Windows in the Redis at this address, or in the database where there is none. It connects when it is first asked,
    and in each process anew."""
    if not redis_url:
        return MovingWindowRateLimiter(DatabaseStorage())
    from redis import ConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # A command whose answer is missing may have been done: it is not sent again.
    limits = {"socket_connect_timeout": REDIS_LIMIT_S, "socket_timeout": REDIS_LIMIT_S, "retry": Retry(NoBackoff(), 0)}
    pool = ConnectionPool.from_url(redis_url, **limits)
    prefix = f"zcplatform:{settings.INSTANCE}"  # one Redis may serve several installations
    return MovingWindowRateLimiter(RedisStorage(redis_url, pool, prefix, wrap_exceptions=True))


limiter = limiter_on(settings.REDIS_URL)
permits = Permits()


def spend(budget: str, *parts: str, cost: int = 1) -> None:
    """Take ``cost`` from a budget such as ``5/15minutes`` for this key. RateLimited when there is not as much left,
    DependencyDown ``rates_unavailable`` when that can't be known."""
    item = parse(budget)
    if not _hit(item, *parts, cost=cost):
        raise _too_many(item, *parts)


def fault() -> str:
    """Why nothing can be counted in Redis; empty when it can, and where the windows are in the database."""
    if not isinstance(limiter.storage, RedisStorage):
        return ""
    try:
        _hit(parse(PROBE), "probe")
    except DependencyDown as error:
        return scrub(f"{type(error.__cause__).__name__}: {error.__cause__}")
    return ""


def eviction() -> str:
    """Redis' policy for a full memory where it drops windows before their time, and with them what was counted."""
    if not isinstance(limiter.storage, RedisStorage):
        return ""
    memory = limiter.storage.get_connection().info("memory")  # type: ignore[attr-defined]
    policy = str(memory.get("maxmemory_policy", ""))
    return policy if memory.get("maxmemory") and policy != "noeviction" else ""


def network_of(ip: str) -> str:
    """The address a budget counts by: of IPv6 the /64, since whoever has one address there has them all."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def prune() -> int:
    """Forget windows in which nothing counts any more; how many they were."""
    return RateWindow.objects.filter(expires_at__lt=clock.now()).delete()[0]


def _block(limit: RateLimitItem, key: str) -> tuple[int, Rate]:
    """A block of permits, or the last few one by one."""
    for number in (min(BLOCK, max(1, limit.amount // 10)), 1):
        if _hit(limit, "api", key, cost=number):
            reset, left = _stats(limit, "api", key)
            return number, Rate(limit.amount, max(0, left), _seconds_until(reset))
    raise _too_many(limit, "api", key)


def _too_many(item: RateLimitItem, *parts: str) -> RateLimited:
    wait = _seconds_until(_stats(item, *parts).reset_time)
    return RateLimited(f"Too many requests; try again in {wait} s.", retry_after=wait, limit=str(item))


def _hit(item: RateLimitItem, *parts: str, cost: int = 1) -> bool:
    with _counting():
        return limiter.hit(item, *parts, cost=cost)


def _stats(item: RateLimitItem, *parts: str) -> WindowStats:
    with _counting():
        return limiter.get_window_stats(item, *parts)


@contextmanager
def _counting() -> Iterator[None]:
    """DependencyDown when Redis does not answer, or answers that it can't. The database's own errors pass."""
    try:
        yield
    except StorageError as error:
        message = "Requests can't be counted at the moment, so none is let through; try again later."
        raise DependencyDown(message, type="rates_unavailable") from error.storage_error


def _seconds_until(moment: float) -> int:
    return max(1, round(moment - clock.now().timestamp()))


def _locked(key: str) -> RateWindow:
    """The row of ``key``, made when there is none, locked until the transaction ends."""
    row = RateWindow.objects.select_for_update().filter(key=key).first()
    if row is None:
        RateWindow.objects.bulk_create([RateWindow(key=key)], ignore_conflicts=True)
        row = RateWindow.objects.select_for_update().get(key=key)
    return row


def _within(hits: list[Any], now: float, expiry: int) -> list[Any]:
    """Those of the last ``expiry`` seconds. What lies in the future was counted before the clock was set back."""
    return [hit for hit in hits if now - expiry < hit[0] <= now + expiry]
