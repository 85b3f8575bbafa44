"""No proxy: tenants are paths under the platform's own address, and the door reads the rows itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from django.conf import settings

from tenants.routing.base import Route, RouterInfo, SyncResult
from zcplatform.lib.addresses import authority, reachable
from zcplatform.lib.slugs import check_slug


class DirectRouter:
    """Routes are the rows themselves (``Tenant.routed``), so there is nothing to bring in line.

    Chat and the agents' public paths over HTTP; a WebSocket needs Caddy.
    """

    kind = "direct"

    def check(self) -> RouterInfo:
        return RouterInfo(kind=self.kind, version="")

    def sync(self, desired: Callable[[], Sequence[Route]]) -> SyncResult:
        return SyncResult()

    def differences(self, desired: Sequence[Route]) -> SyncResult:
        return SyncResult()

    def is_gone(self) -> bool:
        return False

    def url(self, slug: str) -> str:
        return f"{settings.PUBLIC_BASE_URL}/t/{check_slug(slug)}"

    def connect(self, slug: str) -> tuple[str, Mapping[str, str]]:
        return f"http://{authority(reachable(settings.BIND), settings.PORT)}/t/{check_slug(slug)}", {}
