"""One health check of one agent, from the worker that waits for it. (The fleet's sweep is monitoring's.)"""

from __future__ import annotations

import os

import httpx

from tenants.agents import agent_kind
from tenants.models import Tenant

TIMEOUT_S = 2.0
BODY_CAP = 65_536
_clients: dict[int, httpx.Client] = {}


def probe(tenant: Tenant) -> bool:
    """True when the agent answers its health path as a healthy one of its kind does."""
    kind = agent_kind(tenant.agent_kind)
    url = f"http://{tenant.node.address}:{tenant.port}{kind.health_path}"
    try:
        with _client().stream("GET", url) as answer:
            body = b""
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > BODY_CAP:
                    return False
            return kind.healthy(answer.status_code, body)
    except httpx.HTTPError:
        return False


def _client() -> httpx.Client:
    """One client per process: making one costs more than a probe, and a fork must not share sockets."""
    pid = os.getpid()
    if pid not in _clients:
        _clients.clear()
        _clients[pid] = httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
    return _clients[pid]
