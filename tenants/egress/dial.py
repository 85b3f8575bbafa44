"""Connecting for an agent: only to public addresses, judged after the name was resolved, so no name leads inside."""

from __future__ import annotations

import asyncio
import socket

from zcplatform.lib.addresses import is_here, is_public

CONNECT_S = 10.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Guarded(Exception):
    """The name leads to no public address."""


async def dial(host: str, port: int, *, internal: frozenset[tuple[str, int]]) -> Streams:
    """A connection to ``host``; Guarded, or OSError when nobody answers. ``internal`` may lead anywhere."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_S):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if (host, port) not in internal:
        addresses = [address for address in addresses if is_public(address) and not is_here(address)]
    if not addresses:
        raise Guarded(host)
    return await _first_that_answers(addresses, port)


async def _first_that_answers(addresses: list[str], port: int) -> Streams:
    failure: OSError = OSError("no address")
    for address in addresses[:4]:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(address, port)
        except OSError as error:  # TimeoutError is one
            failure = error
    raise failure
