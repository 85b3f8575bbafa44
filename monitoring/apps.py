from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from tenants.models import Tenant


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        from tenants.usage import BEFORE_STOP

        if _read_last not in BEFORE_STOP:
            BEFORE_STOP.append(_read_last)


def _read_last(tenant: Tenant) -> None:
    """Loaded when it is needed: asking agents takes an HTTP client, which most commands do without."""
    from monitoring.collectors.usage import read_last

    read_last(tenant)
