"""One health check of one agent, from the worker that waits for it. (The fleet's sweep is monitoring's.)"""

from __future__ import annotations

import asyncio

import httpx

from tenants.agents import agent_kind, is_healthy
from tenants.models import Tenant
from zcplatform.lib.contained import contained

TIMEOUT_S = 2.0
"""For the whole of it: an agent that answers a byte a second must not hold the worker that asks."""
BODY_CAP = 65_536


def probe(tenant: Tenant) -> bool:
    """True when the agent answers its health path, within two seconds, as a healthy one of its kind does."""
    kind = agent_kind(tenant.agent_kind)
    url = f"http://{tenant.node.address}:{tenant.port}{kind.health_path}"
    answer = contained(lambda: asyncio.run(_ask(url)), None, what="agent can't be asked", port=tenant.port)
    return answer is not None and is_healthy(tenant.agent_kind, *answer)


async def _ask(url: str) -> tuple[int, bytes] | None:
    """Status and body; None when there is no whole answer in time, or one that is too large."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            # Agents speak plain HTTP on the loopback; loading the certificates would take longer than the check.
            httpx.AsyncClient(trust_env=False, verify=False, timeout=TIMEOUT_S) as client,  # noqa: S501
            client.stream("GET", url) as answer,
        ):
            body = b""
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > BODY_CAP:
                    return None
            return answer.status_code, body
    except (httpx.HTTPError, TimeoutError):
        return None
