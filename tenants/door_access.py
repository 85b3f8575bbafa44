"""Who may pass the door, and to which agent: short queries, run in threads of the door's own."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Generic, NoReturn, TypeVar

from asgiref.sync import sync_to_async
from django.db import OperationalError, close_old_connections, transaction

from audit.services import Target, record
from tenants import tokens
from tenants.door_http import NO_TOKEN
from tenants.models import AccessToken, Tenant, TenantSecret
from tenants.states import Status
from vault.models import Secret
from vault.services import reveal
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import DependencyDown, Misconfigured, NotFound, Overloaded, Unauthenticated
from zcplatform.lib.redact import SecretStr, handle

KEEP_S = 60.0
MAX_KEPT = 5_000
MAX_WAITING, MAX_WAITING_EACH = 64, 32
"""Of all callers together, and of one: half stays for everybody else."""
T = TypeVar("T")

# Threads of its own: Django's single thread for synchronous code would make every chat wait for every other.
_threads = ThreadPoolExecutor(4, thread_name_prefix="door")
_asked: Counter[str] = Counter()
_toucher = ThreadPoolExecutor(1, thread_name_prefix="door-touch")
_touching = Lock()
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agent:
    """Where a running tenant's agent listens."""

    tenant_id: int
    public_id: str
    kind: str
    address: str
    port: int


async def in_database(query: Callable[..., T], *args: object, caller: str = "") -> T:
    """Overloaded when so many queries wait that one more would come too late, or too many of this ``caller``, which is
    a network."""
    if _asked.total() >= MAX_WAITING or _asked[caller] >= MAX_WAITING_EACH:
        raise Overloaded
    _asked[caller] += 1
    try:
        return await sync_to_async(_with_connection, thread_sensitive=False, executor=_threads)(query, *args)
    finally:
        _asked[caller] -= 1
        if not _asked[caller]:
            del _asked[caller]


def _with_connection(query: Callable[..., T], *args: object) -> T:
    close_old_connections()
    try:
        return query(*args)
    finally:
        close_old_connections()


def admit(slug: str, bearer: str) -> tuple[Agent, SecretStr]:
    """The agent of ``slug`` and the secret that it asks for. NotFound when there is no such tenant,
    Unauthenticated for a token that is not of this tenant, DependencyDown ``tenant_not_running``."""
    agent = _running(_tenant_of(slug, bearer))
    return agent, agent_token(agent.tenant_id)


def known_since(slug: str, bearer: str) -> int:
    """When the tenant was made, in Unix seconds, for who has a token of it, whether its agent runs or not. Otherwise as
    ``admit``."""
    return int(_tenant_of(slug, bearer).created_at.timestamp())


def _tenant_of(slug: str, bearer: str) -> Tenant:
    token = tokens.lookup(bearer) if slug else None
    if token is None or token.tenant.slug != slug:
        _refuse(slug, token)
    _touch_later(token)
    return token.tenant


def _touch_later(token: AccessToken) -> None:
    """Note the use of the token beside the chat: somebody else's long write must not hold it up."""
    if _touching.acquire(blocking=False):
        _toucher.submit(_touch, token)


def _touch(token: AccessToken) -> None:
    try:
        _with_connection(tokens.touch, token)
    except OperationalError:
        log.warning("the use of a token was not noted: the database is busy")
    finally:
        _touching.release()


def public_agent(slug: str) -> Agent:
    """The agent of ``slug`` for its public paths, which need no token. NotFound, or ``tenant_not_running``."""
    tenant = Tenant.objects.alive().select_related("node").filter(slug=slug).first() if slug else None
    if tenant is None:
        raise NotFound
    return _running(tenant)


def agent_token(tenant_id: int) -> SecretStr:
    """The agent's own bearer. Kept for up to a minute, so that not every chat is a read of the vault."""
    tie = TenantSecret.objects.select_related("secret").filter(tenant_id=tenant_id, channel=None, field="agent_token")
    found = tie.first()
    if found is None:
        raise Misconfigured("This tenant has no agent token.", type="no_agent_token")
    token = _secrets.get((found.secret.pk, found.secret.updated_at), lambda: _reveal(found.secret))
    handle(token)
    return token


def _refuse(slug: str, token: AccessToken | None) -> NoReturn:
    """Raise what a stranger gets; whether the token belongs to another tenant can't be told from it."""
    if not slug or not Tenant.objects.alive().filter(slug=slug).exists():
        raise NotFound
    if token is not None:
        _misuses.get((token.pk, slug), lambda: _record_misuse(token, slug))
    raise Unauthenticated(NO_TOKEN)


def _record_misuse(token: AccessToken, slug: str) -> None:
    tenant = token.tenant
    actor = Actor(label=f"access token {token.prefix}…")
    target = Target("tenant", str(tenant.public_id), tenant.slug)
    with transaction.atomic():
        record(
            "access.denied",
            actor=actor,
            target=target,
            tenant=str(tenant.public_id),
            detail={"used_at": slug},
            outcome="denied",
        )


def _reveal(secret: Secret) -> SecretStr:
    return reveal(secret, actor=SYSTEM, why="chat")


def _running(tenant: Tenant) -> Agent:
    if not tenant.routed or tenant.status != Status.RUNNING or tenant.port is None:
        raise DependencyDown("This tenant's agent is not running.", type="tenant_not_running", retry_after=5)
    return Agent(tenant.pk, str(tenant.public_id), tenant.agent_kind, tenant.node.address, tenant.port)


class _Kept(Generic[T]):
    """Values for up to a minute. One at a time is made, so that a burst is one row of the audit and not twenty."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[Hashable, tuple[T, float]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            known = self._values.get(key)
            if known and known[1] > time.monotonic():
                return known[0]
            if len(self._values) >= MAX_KEPT:
                self._values.clear()
            value = make()
            self._values[key] = value, time.monotonic() + KEEP_S
            return value


_secrets: _Kept[SecretStr] = _Kept()
_misuses: _Kept[None] = _Kept()
