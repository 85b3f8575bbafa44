"""Looking at the platform from outside: names and the certificate of its public address."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from tenants.routing.addresses import listen_address
from zcplatform.doctor.findings import Looked
from zcplatform.lib import serve_lock
from zcplatform.lib.addresses import authority, reachable

LIMIT_S = 5.0
EXPIRES_SOON = timedelta(days=14)
OK = HTTPStatus.OK
RECONCILE = "Run: zcplatform reconcile"
PROBE = "zcplatform-doctor"  # as good a tenant's name as any


def web() -> Looked:
    """Where ``serve`` runs the web: whether it answers, and whether the router finds it."""
    if serve_lock.holder(Path(settings.HOME), "web") is None:
        return
    host, at = reachable(settings.BIND), authority(reachable(settings.BIND), settings.PORT)
    if _status(HTTPConnection(host, settings.PORT, timeout=LIMIT_S)) != OK:
        todo = (
            "The settings of serve and of this command must be the same: look at ZCPLATFORM_BIND and ZCPLATFORM_PORT."
        )
        yield "error", f"serve runs, and the web does not answer at {at}.", todo
    elif settings.ROUTER == "caddy" and (status := _status(_through_router())) != OK:
        said = f"answers {status} for" if status else "does not answer at"
        yield "error", f"The web answers at {at}, and the router {said} the platform's own address.", RECONCILE


def _through_router() -> HTTPConnection:
    host, port = listen_address(settings.CADDY_LISTEN)
    if not settings.CADDY_HTTPS:
        return HTTPConnection(reachable(host), port, timeout=LIMIT_S)
    return _ToRouter(reachable(host), port, timeout=LIMIT_S, context=ssl._create_unverified_context())  # noqa: S323


class _ToRouter(HTTPSConnection):
    """By https, under the platform's own name: which certificate it has is another check's business."""

    def connect(self) -> None:
        self.sock = socket.create_connection((self.host, self.port), self.timeout)
        name = settings.PUBLIC_HOST.strip("[]")
        self.sock = self._context.wrap_socket(self.sock, server_hostname=name)  # type: ignore[attr-defined]


def _status(connection: HTTPConnection) -> int:
    """Of an answer to whether the platform lives; 0 when there is none."""
    with closing(connection):
        try:
            connection.request("GET", "/healthz", headers={"Host": settings.PUBLIC_HOST})
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0


def names() -> Looked:
    """Names on this machine need no one to resolve them; all others must, and the tenants' like the platform's."""
    public = str(urlsplit(settings.PUBLIC_BASE_URL).hostname)
    wanted = [public] + ([f"{PROBE}.{settings.DOMAIN}"] if settings.ROUTER == "caddy" else [])
    found = {name: _addresses(name) for name in wanted if not _is_local(name)}
    for name, addresses in found.items():
        if not addresses:
            record = f"*.{settings.DOMAIN}" if name.startswith(f"{PROBE}.") else name
            yield "error", f"{record} does not resolve.", f"Add an A or AAAA record for {record}."
    if len({frozenset(addresses) for addresses in found.values() if addresses}) > 1:
        what = f"*.{settings.DOMAIN} leads elsewhere than {public}."
        yield (
            "warning",
            what,
            "Both are answered by this machine's Caddy; correct the DNS records unless that is meant.",
        )


def certificate() -> Looked:
    """What a browser would say of the public address; nothing on plain http."""
    address = urlsplit(settings.PUBLIC_BASE_URL)
    if not settings.IS_HTTPS or not address.hostname:
        return
    try:
        until = _valid_until(address.hostname, address.port or 443)
    except ssl.SSLCertVerificationError as error:
        what = f"The certificate of {address.hostname} is not accepted: {error.verify_message}."
        yield "error", what, "Look at the router's log; Caddy renews by itself when port 80 or 443 can be reached."
        return
    except OSError as error:
        what = f"{address.hostname} can't be reached by https: {error.strerror or error}."
        yield "error", what, "Is the router running, and does the name lead to it?"
        return
    left = until - datetime.now(UTC)
    if left < EXPIRES_SOON:
        what = f"The certificate of {address.hostname} expires in {left.days} days."
        yield "warning", what, "It should have been renewed: look at the router's log."


def _valid_until(host: str, port: int) -> datetime:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        shown = tls.getpeercert() or {}
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)


def _addresses(name: str) -> set[str]:
    try:
        return {str(item[4][0]) for item in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _is_local(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or name.replace(".", "").isdigit() or ":" in name
