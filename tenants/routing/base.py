"""The contract of a router. Routes are desired state: the router is brought to exactly the given set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

CHAT_PATH, MODELS_PATH, PAIR_PATH = "/v1/chat/completions", "/v1/models", "/pair"
MAX_WEBHOOK_BODY = 10 * 1_048_576
"""Bytes of a request to one of an agent's public paths, with either router."""
_PATHS = (CHAT_PATH, MODELS_PATH, PAIR_PATH)
DOOR_PATHS = (*_PATHS, *(f"{path}/" for path in _PATHS))
"""What the platform itself answers at a tenant's address, as exact paths; a slash at the end changes nothing."""


@dataclass(frozen=True)
class Route:
    """One tenant's way in. ``tenant`` is the public id, ``port`` the agent's on the node's loopback.

    ``public_paths`` go to the agent; ``DOOR_PATHS`` go to the platform's door; the rest is 404.
    """

    tenant: str
    slug: str
    port: int
    public_paths: tuple[str, ...]


@dataclass(frozen=True)
class RouterInfo:
    kind: str
    version: str


@dataclass(frozen=True)
class SyncResult:
    """What a sync changed, by tenant public id; empty when the router was already right."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    platform: bool = False
    """True when the platform's own routes had to be put back."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.platform)


class Router(Protocol):
    kind: str

    def check(self) -> RouterInfo:
        """The router's version; DependencyDown when it does not answer."""

    def sync(self, desired: Callable[[], Sequence[Route]]) -> SyncResult:
        """Bring the router to exactly ``desired()`` and read it back. Called by several workers at once;
        ``desired`` is asked again whenever somebody else was faster. DependencyDown when it does not answer."""

    def differences(self, desired: Sequence[Route]) -> SyncResult:
        """What ``sync`` would change; changes nothing."""

    def is_gone(self) -> bool:
        """True when the router is the platform's own and does not run: it has no routes, and will begin with those of
        the rows. Of somebody else's router, or one that only does not answer, that can't be said."""

    def url(self, slug: str) -> str:
        """The tenant's public address, without a slash at the end."""

    def connect(self, slug: str) -> tuple[str, Mapping[str, str]]:
        """How to reach the tenant's address from this host, where ``*.localhost`` does not resolve:
        a base URL that connects to the loopback, and the headers to send with it."""
