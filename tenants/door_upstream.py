"""The door's side towards the agents: one shared client, headers made anew, every fault told without an address."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from tenants.agents.base import ChatCall
from tenants.door_access import Agent
from zcplatform.lib.errors import BadUpstream, DependencyDown, DependencyTimeout, InvalidField, RateLimited

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2.0, 300.0
KEEPALIVE_S = 3.0
"""Shorter than what agents keep an idle connection (5 s is usual): a POST on one that they just closed is lost."""
MAX_CONNECTIONS = 1_000
MAX_REPLY = 10 * 1_048_576


class Upstream:
    """Opens its client in the running loop at the first call; ``aclose`` it at the end."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def chat(self, agent: Agent, call: ChatCall) -> AsyncIterator[httpx.Response]:
        """Send ``call`` and give the answer when it is 200. Leaving the block closes the connection of an answer
        that was not read to its end. BadUpstream, DependencyDown, DependencyTimeout, RateLimited, InvalidField."""
        headers = {**call.headers, "Content-Type": "application/json"}
        body = json.dumps(call.body).encode()
        async with self.send("POST", agent, call.path, headers, body) as response:
            if response.status_code != 200:
                raise _refusal(response)
            yield response

    @asynccontextmanager
    async def send(
        self, method: str, agent: Agent, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and give the answer, whatever its status, before its body is read."""
        url = f"http://{agent.address}:{agent.port:d}{path}"
        plain = {"Accept-Encoding": "identity", **headers}
        limits = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
        try:
            async with self._open().stream(method, url, headers=plain, content=body, timeout=limits) as response:
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise DependencyDown("The agent does not answer.", type="agent_unreachable", retry_after=5) from error
        except httpx.TimeoutException as error:
            raise DependencyTimeout("The agent did not answer in time.", type="agent_timeout") from error
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise BadUpstream("The agent's answer broke off.") from error

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=AiohttpTransport(client=_session, verify=False, trust_env=False),
                follow_redirects=False,
                trust_env=False,
                # Agents share an address and differ by port, which cookies do not know: none is ever kept.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def whole(response: httpx.Response) -> bytes:
    """The body of an answer; BadUpstream above 10 MB."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_REPLY:
            raise BadUpstream("The agent's answer is too large.")
    return bytes(content)


def _refusal(response: httpx.Response) -> Exception:
    """The class of the agent's refusal; nothing of its text, which may name what is behind it."""
    status = response.status_code
    if status == 429:
        after = response.headers.get("retry-after", "")
        return RateLimited("The agent is busy.", retry_after=min(int(after), 3_600) if after.isdecimal() else 5)
    if status in (400, 413, 422):
        return InvalidField("The agent does not accept this request.", type="agent_refused")
    if status == 503:
        return DependencyDown("The agent is not ready.", type="agent_unready", retry_after=5)
    if status == 504:
        return DependencyTimeout("The agent's model did not answer in time.", type="agent_timeout")
    return BadUpstream("The agent did not answer as it should.", upstream_status=status)
