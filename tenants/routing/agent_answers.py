"""What of an agent's answer reaches a browser, in one place for every router.

An agent's address is a neighbour of all other tenants' and of the platform's own. So its answers may speak of
themselves and of nothing else: no cookie (which a sibling would send as well), no order to the browser about a whole
site, nothing that a proxy in front of us takes for an order, and for a page an origin of its own.
"""

from __future__ import annotations

import string
from typing import Any

Json = dict[str, Any]

ANSWERED = (
    "Content-Type", "Content-Language", "Content-Disposition", "ETag", "Last-Modified", "Retry-After", "Vary",
)  # fmt: skip
"""The headers that pass, whichever router; what is not named is dropped."""

SANDBOX = ("Content-Security-Policy", "sandbox allow-scripts allow-forms")
"""An origin of its own for whatever is served: no cookies, no storage, no requests in the user's name."""

_THROUGH_CADDY = (*ANSWERED, "Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges", "Cache-Control",
                  "Expires", "Location")  # fmt: skip
_FINAL = range(2, 10)  # by their first digit: a browser shows an answer with any status, 999 too
# Caddy can only drop by name from an answer below 200, so this is everything that begins otherwise than what a
# handshake needs: Connection, Date, Sec-WebSocket-*, Upgrade.
_NO_HANDSHAKE = (
    *(f"{letter}*" for letter in string.ascii_lowercase + string.digits if letter not in "cdsu"),
    "Ca*", "Cc*", "Cd*", "Ce*", "Ch*", "Cl*", "Cr*", "Cs*", "Content-*", "Cookie*", "Critical-*", "Cross-*",
    "De*", "Do*", "Dp*", "Server*", "Service-*", "Set-*", "Sec-Session-*", "Secure-*", "So*", "Sp*", "St*", "Su*",
)  # fmt: skip


def caddy_cleaning() -> Json:
    """The handler that stands around the agents' proxies, for the answers below 200, which end nothing or switch
    protocols: the proxy passes these on whatever it is told."""
    response = {"require": {"status_code": [1]}, "deferred": True, "delete": list(_NO_HANDSHAKE)}
    return {"handler": "headers", "response": response}


def caddy_proxy_options() -> Json:
    """For an agent's ``reverse_proxy``: no cookie goes up, and all headers of the answer are dropped after those
    that pass have been copied."""
    safe = {"set": {SANDBOX[0]: [SANDBOX[1]], "X-Content-Type-Options": ["nosniff"]}}
    copied = [
        {"handler": "copy_response_headers", "include": list(_THROUGH_CADDY)},
        {"handler": "headers", "response": safe},
        {"handler": "copy_response"},
    ]
    return {
        "headers": {"request": {"delete": ["Cookie", "Cookie2"]}, "response": {"delete": ["*"]}},
        "handle_response": [{"match": {"status_code": list(_FINAL)}, "routes": [{"handle": copied}]}],
    }
