"""Asks many agents at once. One that hangs takes its own two seconds and nobody else's: whoever has not answered soon
leaves its place to the next and goes on waiting beside. So hung agents cost one limit together, not one in turn."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from zcplatform.lib.contained import contained

TIMEOUT_S = 2.0
AT_ONCE, SLOW_S = 100, 0.25
"""All of 1,000 hung agents are through in 5 s. Each that waits costs a descriptor and nothing else: at most 800, with
which a process gets by that may open 1,024."""
# What these say is about this host, not about the agent that was asked.
OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
OURS |= {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """``error`` is empty, or why there is no answer: ``timeout``, ``refused``, ``broken``, ``too_large``, or
    ``ours`` when it was this host that could not ask. ``senseless`` is one that could not be dealt with."""

    status: int = 0
    body: bytes = b""
    error: str = ""


def ask(urls: Iterable[tuple[int, str]], take: Callable[[int, Answer], T], *, cap: int = 65_536) -> dict[int, T]:
    """GET each of (key, url) and give what ``take`` makes of key and answer, by key. Bodies over ``cap`` bytes
    are ``too_large``. Whole answers are not kept: a fleet's would be large.

    Whatever an answer does to ``take``, it is asked again with an answer that is ``senseless``, and the others have
    theirs. A key that it fails with even then is left out."""
    return asyncio.run(_ask_all(iter(urls), take, cap))


async def _ask_all(urls: Iterator[tuple[int, str]], take: Callable[[int, Answer], T], cap: int) -> dict[int, T]:
    taken: dict[int, T] = {}
    slow: list[asyncio.Task[None]] = []
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,  # a small answer must not become a large one
        trust_env=False,
    ) as session:

        async def one(key: int, url: str) -> None:
            answer = await _ask(session, url, cap)
            taken.update(_made(take, key, answer) or _made(take, key, Answer(error="senseless")))

        async def work() -> None:
            for item in urls:  # shared: each takes the next
                task = asyncio.create_task(one(*item))
                if not (await asyncio.wait({task}, timeout=SLOW_S))[0]:
                    slow.append(task)
                else:
                    task.result()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        await asyncio.gather(*slow)
    return taken


def _made(take: Callable[[int, Answer], T], key: int, answer: Answer) -> dict[int, T]:
    return contained(lambda: {key: take(key, answer)}, {}, what="an answer can't be dealt with", key=key)


async def _ask(session: aiohttp.ClientSession, url: str, cap: int) -> Answer:
    try:
        async with asyncio.timeout(TIMEOUT_S), session.get(url, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(16_384):
                body += chunk
                if len(body) > cap:
                    return Answer(error="too_large")
            return Answer(response.status, bytes(body))
    except TimeoutError:
        return Answer(error="timeout")
    except Exception as error:  # the library's, and whatever else an answer can make it raise
        return Answer(error=_why(error))


def _why(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number in OURS:
        return "ours"
    return "refused" if number == errno.ECONNREFUSED else "broken"
