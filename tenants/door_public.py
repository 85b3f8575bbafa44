"""With the router ``direct`` an agent's public paths share the platform's own origin: what may pass in and out.

A page of an agent must be able neither to read the platform's pages nor to act as whoever is logged in there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenants.routing.agent_answers import ANSWERED, SANDBOX

Header = tuple[bytes, bytes]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
NOT_FORWARDED = HOP_BY_HOP | frozenset(
    b"host cookie content-length expect forwarded accept-encoding x-real-ip cf-connecting-ip true-client-ip".split()
)
_ANSWERED = frozenset(name.lower().encode() for name in ANSWERED)
_SANDBOX: Header = (SANDBOX[0].lower().encode(), SANDBOX[1].encode())


def serves(public_paths: Sequence[str], path: str) -> bool:
    """Whether ``path`` is one of the exact paths or below one of the prefixes that end in ``/*``."""
    return any(path.startswith(public[:-1]) if public.endswith("/*") else path == public for public in public_paths)


def request_headers(headers: Iterable[Header]) -> dict[str, str]:
    """What goes on to the agent: no cookies of the platform, no word about where the request came from."""
    named = {name for given, value in headers if given == b"connection" for name in _words(value)}
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name not in NOT_FORWARDED and name not in named and b"_" not in name and not name.startswith(b"x-forwarded")
    }


def response_headers(headers: Iterable[Header]) -> list[Header]:
    """What comes back: a short list, so that an agent can set no cookie and no policy of the platform's origin."""
    return [*((name.lower(), value) for name, value in headers if name.lower() in _ANSWERED), _SANDBOX]


def _words(value: bytes) -> list[bytes]:
    return [word.strip().lower() for word in value.split(b",")]
