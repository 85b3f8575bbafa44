"""Routes through Caddy's admin API: one HTTP server of ours, brought to exactly what the rows say.

Read with ETag, ask the rows, write with If-Match, read back. The rows are asked *after* the reading: whatever was
written before we read was built from rows that we see as well, so no writer can take another's route away.
Writers of one host take turns: whoever waited finds its rows already in what the one before it wrote, so that many
changes at once cost about as much as one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from django.conf import settings

from tenants.routing.addresses import (
    admin_socket,
    check_host,
    first_configuration,
    listen_address,
    platform_hosts,
    tenant_host,
    web_host,
)
from tenants.routing.base import Route, RouterInfo, SyncResult
from tenants.routing.caddy_admin import CaddyAdmin, Overtaken
from tenants.routing.caddy_config import Site, build_server, compare
from zcplatform.lib import locks
from zcplatform.lib.addresses import authority, reachable
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.home import run_folder
from zcplatform.lib.slugs import check_slug

TRIES = 50
MAX_PAUSE_S = 0.2
TURN_S = 5.0


class CaddyRouter:
    kind = "caddy"

    def check(self) -> RouterInfo:
        admin = CaddyAdmin(admin_socket())
        admin.ping()
        return RouterInfo(kind=self.kind, version=admin.version())

    def sync(self, desired: Callable[[], Sequence[Route]]) -> SyncResult:
        """See the contract. Every change replaces the whole server: Caddy provisions all of it anyway, and so
        a server that was wiped, edited by hand or written by an older version is repaired by the same act."""
        with _turn():
            return _bring_to(desired, current_site(), CaddyAdmin(admin_socket()))

    def differences(self, desired: Sequence[Route]) -> SyncResult:
        site = current_site()
        found, _ = CaddyAdmin(admin_socket()).read_server(site.server_name)
        return compare(found, build_server(site, desired))

    def is_gone(self) -> bool:
        """A socket that refuses is not enough: Caddy replaces it at every change."""
        return not settings.CADDY_ADMIN and not CaddyAdmin(admin_socket()).listens() and not _own_processes()

    def url(self, slug: str) -> str:
        if settings.TENANT_URL:
            return settings.TENANT_URL.replace("{slug}", check_slug(slug)).rstrip("/")
        return f"{_scheme()}://{_authority(slug)}"

    def connect(self, slug: str) -> tuple[str, Mapping[str, str]]:
        host, port = listen_address(settings.CADDY_LISTEN)
        return f"{_scheme()}://{authority(reachable(host), port)}", {"Host": _authority(slug)}


def _own_processes() -> list[int]:
    """What was started with our first configuration, even if it has not become Caddy yet."""
    wanted, found = os.fsencode(first_configuration()), []
    for path in Path("/proc").iterdir():
        with suppress(OSError):
            if path.name.isdigit() and wanted in (path / "cmdline").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def _bring_to(desired: Callable[[], Sequence[Route]], site: Site, admin: CaddyAdmin) -> SyncResult:
    done = SyncResult()
    for attempt in range(TRIES):
        found, etag = admin.read_server(site.server_name)
        wanted = build_server(site, desired())
        missing = compare(found, wanted)
        if not missing:
            return done
        try:
            admin.write_server(site.server_name, wanted, etag)
        except Overtaken:
            time.sleep(random.uniform(0, min(MAX_PAUSE_S, 0.01 * (attempt + 1))))  # noqa: S311 - jitter
            continue
        done = _together(done, missing)
    raise DependencyDown(f"The routes were changed by others {TRIES} times in a row.", type="router_busy")


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for the other writers of this host, but at most 5 s: it is If-Match that keeps them apart."""
    with ExitStack() as turn:
        with suppress(locks.Busy, OSError):  # on a full disk there may be no room for the file: then nobody waits
            file = locks.take(run_folder(Path(settings.HOME)) / "router.lock", wait_s=TURN_S)
            turn.callback(os.close, file)
        yield


def current_site() -> Site:
    """The settings that shape the server; Misconfigured when one of them can't stand in Caddy's configuration."""
    _, port = listen_address(settings.CADDY_LISTEN)
    return Site(
        instance=settings.INSTANCE,
        domain=check_host(settings.DOMAIN),
        platform_hosts=platform_hosts(),
        platform=authority(web_host(), settings.PORT),
        listen=settings.CADDY_LISTEN,
        listen_port=port,
        https=settings.CADDY_HTTPS,
        stream_close_delay_s=settings.STREAM_CLOSE_DELAY_S,
        max_chat_body=settings.DOOR_BODY_MAX,
    )


def _scheme() -> str:
    return "https" if settings.CADDY_HTTPS else "http"


def _authority(slug: str) -> str:
    _, port = listen_address(settings.CADDY_LISTEN)
    standard = port == (443 if settings.CADDY_HTTPS else 80)
    return tenant_host(slug) if standard else f"{tenant_host(slug)}:{port}"


def _together(first: SyncResult, second: SyncResult) -> SyncResult:
    return SyncResult(
        added=tuple(sorted({*first.added, *second.added})),
        changed=tuple(sorted({*first.changed, *second.changed})),
        removed=tuple(sorted({*first.removed, *second.removed})),
        platform=first.platform or second.platform,
    )
